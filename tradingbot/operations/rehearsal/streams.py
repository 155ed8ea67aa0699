"""The stream workers in stepped time: the account's socket, and what the market's socket brings.

User events come as the frames that the exchange would send and go through the bot's own parser. Of the market
the newest quote and the closed candles are told, with the faults of its messages at their moment.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
from django.conf import settings

from market import rules as market_rules
from market import services as market
from market.contracts import AccountFrame, Interval, MalformedFrame, Quote
from market.models import FeedSession, FeedState
from market.rules import ServerShutdown
from risk import services as risk
from risk.contracts import Health
from simulator.api import endpoints
from simulator.faults import FaultKind
from tradingbot.operations.rehearsal.exchange import RehearsedExchange
from tradingbot.operations.rehearsal.faults import Faults
from tradingbot.operations.rehearsal.knobs import ACCOUNT_PATH, MARKET_PATH

# The faults here would lower the level within minutes, and then only approvals would be rehearsed.
ALL_WELL = Health(
    stale_feeds=(),
    reconciled=True,
    reconciliation_note="",
    unresolved_orders=0,
    rejected_in_a_row=0,
    open_breakers=(),
    orders_last_hour=0,
    orders_failed_last_hour=0,
    speed_samples=0,
    proposal_to_execution_p95_ms=None,
)
HISTORY = 200
MINUTE = timedelta(minutes=1)
LIFETIME = timedelta(hours=24)
PATIENCE = timedelta(seconds=25)  # of the bot with a socket that does not answer its pings
PAUSE_SECONDS = (1, 10)  # until it is connected again
PATHS = {"account": ACCOUNT_PATH, "market": MARKET_PATH}


class StepSocket:
    """The exchange's end of one of the bot's sockets: what it queues, and how faults treat it."""

    microseconds = False

    def __init__(self, path: str, now: Callable[[], datetime]) -> None:
        self.path = path
        self.on_close: list[Callable[[], None]] = []
        self.frames: deque[bytes] = deque()
        self.closed = False
        self.opened_at = now()
        self.silent_since: datetime | None = None
        self._silent_until = now()
        self._now = now

    @property
    def is_silent(self) -> bool:
        """Half open: nothing is sent."""
        return self._now() < self._silent_until

    def send(self, frame: bytes) -> None:
        """Queue a frame for the bot, unless it is lost."""
        if not self.closed and not self.is_silent:
            self.frames.append(frame)

    def fall_silent(self, seconds: float) -> None:
        """Lose everything for a while, and stay open."""
        self.silent_since = self._now()
        self._silent_until = self._now() + timedelta(seconds=seconds)

    def close_soon(self, code: int, reason: str) -> None:
        """End; what is queued is lost."""
        self.abort()

    def abort(self) -> None:
        """Cut at once."""
        self.closed = True
        self.frames.clear()


@dataclass(slots=True)
class _Stream:
    socket: StepSocket | None = None
    session: FeedSession | None = None
    again_at: datetime | None = None
    heard_at: datetime | None = None


class Streams:
    """Both streams of the bot."""

    def __init__(self, exchange: RehearsedExchange, faults: Faults, now: Callable[[], datetime]) -> None:
        self._exchange, self._faults, self._now = exchange, faults, now
        self._dice: Random = faults.rng
        self._streams = {name: _Stream() for name in PATHS}
        self._retired: list[StepSocket] = []  # a successor has taken over, and it may still bring something
        self._fed_until: datetime | None = None
        self.frames_refused = 0

    # --- sockets ----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Take what has come, give up what is dead, connect again, write how the feeds stand."""
        self._take_events()
        for name, stream in self._streams.items():
            if stream.socket is not None and self._is_over(stream.socket):
                self._end(name, "the socket ended")
            if stream.socket is None and (stream.again_at is None or stream.again_at <= self._now()):
                self._connect(name)
            self._write_state(name, stream)
        risk.follow_health(health=ALL_WELL, now=self._now())

    def cut(self) -> None:
        """The bot's own processes go down, and its sockets with them."""
        for name, stream in self._streams.items():
            if stream.socket is not None:
                self._end(name, "the process ended")

    @property
    def is_hearing(self) -> bool:
        """Whether the account's events come through."""
        socket = self._streams["account"].socket
        return socket is not None and not socket.closed and not socket.is_silent

    @property
    def has_events_on_their_way(self) -> bool:
        """Whether the exchange still holds events back that will come."""
        return self._exchange.venue.user_streams.next_due_ms is not None

    def _is_over(self, socket: StepSocket) -> bool:
        if self._now() - socket.opened_at >= LIFETIME and not socket.closed:
            self._faults.fired["24 h cut"] += 1
            socket.abort()
        given_up = socket.silent_since is not None and self._now() - socket.silent_since >= PATIENCE
        if given_up and not socket.is_silent:
            socket.silent_since, given_up = None, False  # it spoke again in time
        return socket.closed or given_up

    def _connect(self, name: str) -> None:
        stream, now = self._streams[name], self._now()
        if self._exchange.venue.is_down:
            stream.again_at = now + timedelta(seconds=self._dice.randint(*PAUSE_SECONDS))
            return
        socket: Any = StepSocket(PATHS[name], self._now)
        self._exchange.venue.connections.admit(socket)
        if name == "account":
            self._exchange.venue.user_streams.subscribe(socket, self._exchange.account_id)
        stream.socket, stream.again_at = socket, None
        stream.session = FeedSession.objects.create(
            environment=settings.TRADING_ENVIRONMENT, stream=name, connected_at=now, resynced_at=now
        )

    def _end(self, name: str, reason: str) -> None:
        stream, now = self._streams[name], self._now()
        if stream.socket is not None:
            self._dismiss(stream.socket)
        if stream.session is not None:
            FeedSession.objects.filter(pk=stream.session.pk).update(ended_at=now, end_reason=reason)
        stream.socket = None
        stream.again_at = now + timedelta(seconds=self._dice.randint(*PAUSE_SECONDS))

    def _dismiss(self, socket: Any) -> None:
        socket.abort()
        self._exchange.venue.connections.dismiss(socket)

    def _write_state(self, name: str, stream: _Stream) -> None:
        if stream.socket is not None and not stream.socket.is_silent:
            stream.heard_at = self._now()
        FeedState.objects.update_or_create(
            environment=settings.TRADING_ENVIRONMENT,
            stream=name,
            defaults={
                "connected": stream.socket is not None,
                "last_message_at": stream.heard_at,
                "resynced_at": stream.session.resynced_at if stream.socket and stream.session else None,
                "updated_at": self._now(),
            },
        )

    # --- user events ------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        socket = self._streams["account"].socket
        frames: list[AccountFrame] = []
        for source in [*self._retired, *([socket] if socket is not None else [])]:
            while source.frames:
                message = market_rules.parse_reply(source.frames.popleft(), received_at=self._now())
                if isinstance(message, AccountFrame):
                    frames.append(message)
                elif isinstance(message, ServerShutdown) and source is socket:
                    self._succeed()
        for source in [old for old in self._retired if old.closed]:
            self._retired.remove(source)
            self._dismiss(source)
        if frames:
            market.record_account_events(events=frames)

    def _succeed(self) -> None:
        """serverShutdown: a second socket first, then the old one is left to end by itself."""
        old = self._streams["account"].socket
        if old is not None:
            self._retired.append(old)
        self._connect("account")

    # --- the market -------------------------------------------------------------------------------------

    def feed_market(self) -> None:
        """What the market's socket has brought by now: closed candles and the newest quotes."""
        socket = self._streams["market"].socket
        if socket is None or socket.closed or socket.is_silent:
            return
        minutes = HISTORY if self._fed_until is None else (self._now() - self._fed_until) // MINUTE
        complete = [self._feed_candles(symbol, minutes + 2) for symbol in self._exchange.symbols if minutes]
        if all(complete):
            self._fed_until = self._now() - timedelta(seconds=self._now().second)
        for symbol in self._exchange.symbols:
            self._feed_quote(symbol)

    def _feed_candles(self, symbol: str, limit: int) -> bool:
        """Store closed candles; False when the newest was swallowed, so that the next time fills the hole."""
        rows = self._exchange.public(endpoints.KLINES, symbol=symbol, interval="1m", limit=str(limit))[:-1]
        swallowed = self._take(FaultKind.MUTE_CLOSED_KLINE, symbol, "kline_1m") is not None
        candles = [
            market_rules.parse_kline_row(row, symbol=symbol, interval=Interval.M1, closed=True)
            for row in (rows[:-1] if swallowed else rows)
        ]
        market.upsert_candles(candles=candles, now=self._now())
        return not swallowed

    def _feed_quote(self, symbol: str) -> None:
        if self._take(FaultKind.MUTE_MARKET, symbol, "bookTicker") is not None:
            return
        book = self._exchange.public(endpoints.BOOK_TICKER, symbol=symbol)
        if self._take(FaultKind.TRUNCATE_MARKET, symbol, "bookTicker") is not None:
            self._refuse_half(symbol, book)
            return
        flood = self._take(FaultKind.DUPLICATE_MARKET, symbol, "bookTicker")
        quote = Quote(
            symbol=symbol,
            bid=Decimal(book["bidPrice"]),
            ask=Decimal(book["askPrice"]),
            bid_quantity=Decimal(book["bidQty"]),
            ask_quantity=Decimal(book["askQty"]),
            received_at=self._now(),
        )
        market.record_quotes(quotes=[quote] * (flood.times if flood else 1))

    def _take(self, kind: FaultKind, symbol: str, stream: str) -> Any:
        name, venue = f"{symbol.lower()}@{stream}", self._exchange.venue
        return venue.desk.faults.take(kind, "WS", name, venue.now_ms(), None, symbol)

    def _refuse_half(self, symbol: str, book: dict[str, Any]) -> None:
        """Half a frame must not pass for a quote."""
        keys = {"b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty"}
        data = {"u": 1, "s": symbol, **{key: book[name] for key, name in keys.items()}}
        frame = msgspec.json.encode({"stream": f"{symbol.lower()}@bookTicker", "data": data})
        market_rules.parse_stream_frame(frame)
        try:
            market_rules.parse_stream_frame(frame[: len(frame) // 2])
        except MalformedFrame:
            self.frames_refused += 1
        else:
            raise AssertionError(f"half a frame was taken for a whole one: {frame[: len(frame) // 2]!r}")
