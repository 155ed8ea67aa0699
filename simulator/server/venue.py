"""One running exchange: engine, state file, clocks, open sockets; commits first, then tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from simulator.api.desk import Desk
from simulator.api.limits import MAKER_GIVES_BACK, Limiter
from simulator.clock import MarketClock, monotonic_seconds, system_now_ms
from simulator.decimals import to_units
from simulator.engine.contracts import OrderEvent
from simulator.engine.errors import ConservationError
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import GENERATED_SYMBOLS, KNOWN_INSTRUMENTS, Instrument, instrument_for
from simulator.engine.settlement import Changes
from simulator.faults import FaultBook
from simulator.market.candles import MINUTE_MS
from simulator.market.recording import RecordingError, read_recording
from simulator.market.sources import CandleSource, GeneratedSource, RecordedSource, TradesSource, WildSource
from simulator.market.tape import SymbolTape
from simulator.server.market_feed import MarketFeed
from simulator.server.market_streams import MarketStreams
from simulator.server.sessions import Sessions
from simulator.server.sockets import Connections
from simulator.server.user_streams import UserStreams
from simulator.store import MarketPosition, Store, StoreError

STEPS_PER_TURN = 2_000
GENERATED_HISTORY_MINUTES = 2 * 24 * 60
REPLAY_HISTORY_CANDLES = 600
SAVE_INTERVAL_SECONDS = 1.0
CONNECTION_SECONDS = 86_400.0
"""Sockets are closed at 24 h (binance.md §6)."""
RESET_GRANT = {"USDT": Decimal(10_000), "BTC": Decimal(1), "BNB": Decimal(10)}
"""What each account has after a wipe that names nothing else."""

Answer = TypeVar("Answer")


@dataclass(slots=True, frozen=True)
class VenueSettings:
    """`speed` is market seconds per wall second; no `data` directory means that nothing is kept; a `wild`
    generated market has gaps, thin hours and halts.

    `history_minutes` is how far back a generated market goes, and thus how long an absence it can fill.
    """

    seed: int = 7
    replay: tuple[Path, ...] = ()
    speed: float = 1.0
    data: Path | None = None
    scenario: Path | None = None
    wild: bool = False
    connection_seconds: float = CONNECTION_SECONDS
    history_minutes: int = GENERATED_HISTORY_MINUTES


class Outage:
    """A time in which the exchange is not there. `stop_listening` closes the port, if somebody can."""

    def __init__(self) -> None:
        self.until = 0.0
        self.mode = ""
        self.status = 503
        self.stop_listening: Callable[[float], None] | None = None

    def begin(self, until: float, mode: str, status: int) -> None:
        self.until, self.mode, self.status = until, mode, status


@dataclass(slots=True)
class _Market:
    """The instruments with their sources, and where a first start begins."""

    instruments: list[Instrument]
    sources: dict[str, CandleSource]
    history_ms: int
    start_ms: int
    identity: str


class Venue:
    """Everything behind the servers. Raises RecordingError or StoreError when it cannot start."""

    def __init__(
        self,
        settings: VenueSettings,
        now_ms: Callable[[], int] = system_now_ms,
        monotonic: Callable[[], float] = monotonic_seconds,
    ) -> None:
        self.settings = settings
        self.skew_ms = 0
        self.wall_now_ms = now_ms
        self.store = Store(settings.data) if settings.data else None
        position = self.store.market_position() if self.store else None
        market = _replayed(settings) if settings.replay else _generated(settings, now_ms(), position)
        start_ms = market.start_ms
        paused = False
        if position is not None and position.identity == market.identity:
            start_ms, paused = max(position.market_ms, market.start_ms), position.paused
        self.identity = market.identity
        faults = FaultBook()
        exchange = Exchange(market.instruments, _tapes(market, settings.seed), settings.seed, faults)
        if self.store:
            self.store.restore(exchange)
        self.desk = Desk(exchange, Limiter(), faults)
        self._catch_up(start_ms, paused)
        self.clock = MarketClock(start_ms, settings.speed, monotonic)
        if paused:
            self.clock.set_paused(True)
        self.connections = Connections(settings.connection_seconds)
        self.market_streams = MarketStreams(faults, self.now_ms)
        self.market_feed = MarketFeed(exchange, self.market_streams, faults, self.now_ms)
        self.user_streams = UserStreams(faults)
        self.sessions = Sessions(exchange)
        self.outage = Outage()
        # Replaced by the server, which has a loop: (seconds, call) -> None.
        self.later: Callable[[float, Callable[[], None]], None] = lambda seconds, call: None
        self._saved_at = monotonic()
        self._monotonic = monotonic
        self._late_call_pending = False

    def now_ms(self) -> int:
        """Server time; a fault may put it off."""
        return self.wall_now_ms() + self.skew_ms

    @property
    def exchange(self) -> Exchange:
        return self.desk.exchange

    @property
    def ended(self) -> bool:
        """Every tape is at its end: the market stands still."""
        return self.exchange.next_market_ms() is None

    def position(self) -> MarketPosition:
        """Market time up to which every tick has been taken; the clock may already be further."""
        next_ms = self.exchange.next_market_ms()
        if next_ms is None:
            market_ms = max(tape.last_ms for tape in self.exchange.tapes.values())
        else:
            market_ms = min(self.clock.now_ms(), next_ms - 1)
        return MarketPosition(self.identity, market_ms, self.clock.paused)

    def execute(self, command: Callable[[], Answer]) -> Answer:
        """Run a command and commit what it did, also when it was refused.

        Books that do not add up, or a state file that cannot be written, end the process: memory is then
        ahead of what is saved, and what was answered before is saved.
        """
        try:
            return command()
        except ConservationError as error:
            self.store = None
            raise SystemExit(f"simulator: stopped, the books do not add up: {error}") from error
        finally:
            self._commit()

    def _commit(self) -> None:
        """Save what the last command changed, then send its events."""
        changes = self.exchange.take_changes()
        if changes:
            self._save(changes)
        now_ms = self.now_ms()
        for event in self.exchange.take_events():
            if isinstance(event, OrderEvent) and event.trade and event.order.executed == event.trade.quantity:
                # The first fill of an order gives back of the unfilled-order count.
                gives_back = MAKER_GIVES_BACK if event.trade.is_maker else 1
                self.desk.limiter.add_orders(event.account_id, -gives_back, now_ms)
            self.user_streams.publish(event, now_ms)
        self._publish_late(now_ms)

    def _publish_late(self, now_ms: int) -> None:
        """Send what a fault has held back long enough, and come again for the rest."""
        self.user_streams.publish_late(now_ms)
        due_ms = self.user_streams.next_due_ms
        if due_ms is not None and not self._late_call_pending:
            self._late_call_pending = True
            self.later(max(0.0, (due_ms - now_ms) / 1000), self._on_late_call)

    def _on_late_call(self) -> None:
        self._late_call_pending = False
        self._publish_late(self.now_ms())

    def _save(self, changes: Changes) -> None:
        self._saved_at = self._monotonic()
        if self.store is None:
            return
        try:
            self.store.save(self.exchange, changes, self.position())
        except StoreError as error:
            self.store = None
            raise SystemExit(f"simulator: stopped: {error}") from error

    def run_market(self, steps_max: int) -> bool:
        """Let the market catch up with its clock and publish what happened; False when it is still behind."""
        target_ms = self.clock.now_ms()
        steps = self.execute(lambda: self.exchange.advance(target_ms, self.now_ms(), steps_max))
        self.market_feed.publish(steps)
        if self._monotonic() - self._saved_at >= SAVE_INTERVAL_SECONDS:
            self.save_position()
        return len(steps) < steps_max

    def save_position(self) -> None:
        """Commit where the market stands, and anything else not yet saved."""
        self._save(self.exchange.take_changes())

    def step_market(self, milliseconds: int) -> None:
        """Move a paused market on and let everything happen that falls into that time."""
        self.clock.step(milliseconds)
        while not self.run_market(STEPS_PER_TURN):
            pass
        self.save_position()

    def go_down(self, seconds: float, mode: str, status: int) -> None:
        """Refuse service for a while: see the fault `down`."""
        self.outage.begin(self._monotonic() + seconds, mode, status)
        for connection in self.connections.under(""):
            connection.abort()
        if mode == "refuse" and self.outage.stop_listening is not None:
            self.outage.stop_listening(seconds)

    @property
    def is_down(self) -> bool:
        return self._monotonic() < self.outage.until

    def reset(self, grant: dict[str, Decimal]) -> None:
        """The testnet's wipe: orders, lists, trades and balances vanish, keys stay, every account gets `grant`."""
        self.exchange.take_changes()
        self.exchange.take_events()
        self.exchange.wipe()
        if self.store:
            self.store.wipe()
        for account_id in self.exchange.ledger.accounts:
            for asset, amount in (grant or RESET_GRANT).items():
                self.exchange.deposit(account_id, asset, amount, self.now_ms())
        self.exchange.take_events()
        self._save(self.exchange.take_changes())
        for connection in self.connections.under(""):
            connection.close_soon(1001, "data reset")

    def close(self) -> None:
        self.save_position()
        if self.store:
            self.store.close()

    def _catch_up(self, start_ms: int, paused: bool) -> None:
        """Bring the tapes to `start_ms`. Orders on the book meet every tick only from then on, at first the
        price of that moment: while the server was down nobody traded."""
        now_ms = self.now_ms()
        for tape in self.exchange.tapes.values():
            tape.skip_to(start_ms)
            self.exchange.apply_tick(tape.standing(), now_ms)
        changes = self.exchange.take_changes()
        self.exchange.take_events()
        if self.store:
            self.store.save(self.exchange, changes, MarketPosition(self.identity, start_ms, paused))


def _generated(settings: VenueSettings, now_ms: int, position: MarketPosition | None) -> _Market:
    instruments = [KNOWN_INSTRUMENTS[symbol] for symbol in GENERATED_SYMBOLS]
    sources: dict[str, CandleSource] = {}
    for instrument in instruments:
        sources[instrument.symbol] = (WildSource if settings.wild else GeneratedSource)(
            settings.seed,
            instrument.symbol,
            reference_price=float(instrument.reference_price),
            minute_volatility=instrument.minute_volatility,
            minute_quote_volume=instrument.minute_quote_volume,
            tick=to_units(instrument.tick_size),
            step=to_units(instrument.step_size),
        )
    identity = f"{'wild' if settings.wild else 'generated'}:{settings.seed}"
    start_ms = now_ms
    # A market that runs faster than the wall goes on from where it stopped, maybe in the future; one at
    # speed 1 follows the wall, and the minutes it missed are simply there.
    if position is not None and position.identity == identity and settings.speed != 1:
        start_ms = position.market_ms
    elif position is not None and position.identity == identity:
        start_ms = max(now_ms, position.market_ms)
    history_ms = (start_ms // MINUTE_MS - settings.history_minutes) * MINUTE_MS
    return _Market(instruments, sources, history_ms, start_ms, identity)


def _replayed(settings: VenueSettings) -> _Market:
    instruments: list[Instrument] = []
    sources: dict[str, CandleSource] = {}
    digests: list[str] = []
    starts: list[int] = []
    firsts: list[int] = []
    for path in settings.replay:
        recording = read_recording(path)
        if recording.symbol in sources:
            raise RecordingError(f"{path}: {recording.symbol} is replayed from another file already")
        try:
            instruments.append(
                instrument_for(recording.symbol, recording.price_decimals, recording.quantity_decimals)
            )
        except ValueError as error:
            raise RecordingError(f"{path}: {error}") from None
        digests.append(f"{recording.symbol}:{recording.digest}")
        if recording.trades is not None:
            sources[recording.symbol] = TradesSource(digests[-1], recording.trades)
        else:
            sources[recording.symbol] = RecordedSource(digests[-1], recording.candles)
        history = min(REPLAY_HISTORY_CANDLES, len(recording.candles) // 2)
        firsts.append(recording.candles[0].open_ms)
        starts.append(recording.candles[history].open_ms)
    return _Market(instruments, sources, min(firsts), max(starts), "replay:" + ",".join(sorted(digests)))


def _tapes(market: _Market, seed: int) -> dict[str, SymbolTape]:
    return {
        instrument.symbol: SymbolTape(
            instrument.symbol,
            market.sources[instrument.symbol],
            seed,
            to_units(instrument.tick_size),
            to_units(instrument.step_size),
            market.history_ms,
        )
        for instrument in market.instruments
    }
