"""Every fault knob of the simulator, and how the rehearsal turns it (reference/binance.md §10.4).

`KNOBS` names each of them; a test compares it with the simulator's own list, so that a new one cannot be
forgotten. What acts on requests, events and orders is drawn for each of them; the rest comes off a shuffled
deck, card by card, so that a run of a few days meets all of it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from simulator.engine.errors import ExchangeError
from simulator.faults import AT_ONCE, FaultKind
from simulator.server.incidents import Incidents
from simulator.server.venue import Venue
from tradingbot.operations.rehearsal.faults import Faults

BY_HAND = "by-hand-"
ACCOUNT_PATH, MARKET_PATH = "/ws-api/v3", "/stream"
GRANT = {"USDT": "10000"}  # after a wipe; nothing that a sale of what was held before could be filled from


class Moment(StrEnum):
    """When a knob is turned."""

    ORDER = "order"  # for the request that places or cancels, just before it leaves
    PLACED = "placed"  # with an order that is being placed, for the questions about it
    QUERY = "query"  # for a question, just before it leaves
    EVENT = "event"  # for a user event, just before it is sent
    MINUTE = "minute"  # at the beginning of a busy minute, for what the engine does next
    DECK = "deck"  # at the beginning of a busy minute, card by card


CHANCES = {
    Moment.ORDER: 0.2, Moment.PLACED: 0.1, Moment.QUERY: 0.05, Moment.EVENT: 0.25, Moment.MINUTE: 0.15,
    Moment.DECK: 0.3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Knob:
    """`values(dice, symbol)` is the fault's JSON; `does` says what the rehearsal makes of it."""

    moments: tuple[Moment, ...]
    does: str
    values: Callable[[Random, str], dict[str, Any]] = lambda dice, symbol: {}


def _status(dice: Random, symbol: str) -> dict[str, Any]:
    return dice.choice(
        (
            {"phase": "before", "status": 503, "code": -1008, "msg": "Server is currently overloaded."},
            {"phase": "before", "status": 403, "code": -1000, "msg": "Forbidden"},
            {"phase": "after", "status": 503, "code": -1000, "msg": "An unknown error occurred."},
            {"phase": "after", "status": 504, "code": -1007, "msg": "Timeout waiting for response."},
            {
                "phase": "after",
                "status": 504,
                "code": -1007,
                "msg": "Timeout.",
                "ms": 10_000,
                "ms_max": 11_900,
            },
        )
    )


def _delay(dice: Random, symbol: str) -> dict[str, Any]:
    """Within recvWindow, beyond it, just before the client gives up, and after that."""
    return {"phase": dice.choice(("before", "after")), "ms": dice.choice((900, 2_500, 5_000, 11_000, 14_000))}


def _lag(dice: Random, symbol: str) -> dict[str, Any]:
    return {"seconds": dice.randint(1, 30), "count": dice.randint(2, 8)}


def _down(dice: Random, symbol: str) -> dict[str, Any]:
    return {"seconds": dice.randint(20, 60), "mode": dice.choice(("refuse", "reset", "status"))}


def _halt(dice: Random, symbol: str) -> dict[str, Any]:
    value = dice.choice(("HALT", "BREAK", "CANCEL_ONLY"))
    return {"symbol": symbol, "value": value, "seconds": dice.randint(20, 300)}


def _filters(dice: Random, symbol: str) -> dict[str, Any]:
    """A tick can only grow: what is open must stay on it."""
    values = dice.choice(({"min_notional": "6"}, {"min_notional": "5"}, {"tick_size": "0.1"}))
    return {"symbol": symbol, "values": values}


def _foreign(dice: Random, symbol: str) -> dict[str, Any]:
    order = {"side": "BUY", "type": "MARKET", "quoteOrderQty": "25"}
    return {
        "symbol": symbol,
        "values": {**order, "newClientOrderId": f"{BY_HAND}{dice.getrandbits(48):012x}"},
    }


def _socket(dice: Random, symbol: str) -> dict[str, Any]:
    return {"path": dice.choice((ACCOUNT_PATH, ACCOUNT_PATH, MARKET_PATH))}


def _ticker(dice: Random, symbol: str) -> dict[str, Any]:
    return {"path": f"{symbol.lower()}@bookTicker", "count": dice.randint(1, 8), "times": dice.randint(2, 20)}


M = Moment
KNOBS: dict[FaultKind, Knob] = {
    FaultKind.DROP_ANSWER: Knob((M.ORDER, M.QUERY), "executed, and no answer comes: outcome unknown"),
    FaultKind.DELAY_MS: Knob(
        (M.ORDER, M.QUERY),
        "time passes on the way there or back, up to beyond recvWindow and the client's patience: refused, or "
        "reaching the exchange when nobody waits any more; events come before the answer",
        _delay,
    ),
    FaultKind.STATUS: Knob(
        (M.ORDER, M.QUERY),
        "403 and 5xx before, 5xx and -1007 after execution, -1007 also 10 to 12 s late",
        _status,
    ),
    FaultKind.NOT_FOUND_LAG: Knob(
        (M.PLACED,), "-2013, and missing from lists, for 1 to 30 s, for 2 to 8 questions", _lag
    ),
    FaultKind.RATE_LIMIT: Knob(
        (M.DECK,),
        "429 with Retry-After to every request; the wire then holds requests back as the bot's budget does",
        lambda dice, symbol: {"seconds": dice.randint(5, 60)},
    ),
    FaultKind.MUTE_USER_EVENTS: Knob((M.EVENT,), "the event never comes"),
    FaultKind.DUPLICATE_USER_EVENTS: Knob(
        (M.EVENT,), "the event comes 2 to 4 times", lambda dice, symbol: {"times": dice.randint(2, 4)}
    ),
    FaultKind.DELAY_USER_EVENTS: Knob(
        (M.EVENT,), "the event comes up to 45 s late", lambda dice, symbol: {"ms": dice.randint(100, 45_000)}
    ),
    FaultKind.REORDER_USER_EVENTS: Knob((M.EVENT,), "the event comes after the one that follows it"),
    FaultKind.MUTE_MARKET: Knob((M.DECK,), "quotes do not come, the last ones grow old", _ticker),
    FaultKind.DUPLICATE_MARKET: Knob((M.DECK,), "each quote comes up to 20 times", _ticker),
    FaultKind.TRUNCATE_MARKET: Knob(
        (M.DECK,), "half a frame is given to the stream worker's parser, which must refuse it", _ticker
    ),
    FaultKind.MUTE_CLOSED_KLINE: Knob(
        (M.DECK,),
        "the newest candle is missing until a later one shows the hole, which REST then fills",
        lambda dice, symbol: {"path": f"{symbol.lower()}@kline_1m", "count": dice.randint(1, 2)},
    ),
    FaultKind.PARTIAL_FILL: Knob(
        (M.MINUTE,),
        "an order, also a working leg, is filled by half and then not at all for a minute",
        lambda dice, symbol: {"fraction": 0.5, "seconds": 60},
    ),
    FaultKind.REJECT_PENDING: Knob((M.MINUTE,), "the pending legs of a list are rejected at their turn"),
    FaultKind.CLOSE_WS: Knob(
        (M.DECK,),
        "the account's or the market's socket ends; events are lost until it is connected again",
        lambda dice, symbol: _socket(dice, symbol) | {"close_code": dice.choice((1000, 1006, 1008, 1009))},
    ),
    FaultKind.HALF_OPEN: Knob(
        (M.DECK,),
        "a socket stays open and tells nothing; the stream worker gives it up after 25 s",
        lambda dice, symbol: _socket(dice, symbol) | {"seconds": dice.randint(10, 120)},
    ),
    FaultKind.SERVER_SHUTDOWN: Knob(
        (M.DECK,),
        "serverShutdown: a successor is connected, the old socket closes after 0 to 10 s",
        lambda dice, symbol: {"path": ACCOUNT_PATH, "ms": 0, "ms_max": 10_000},
    ),
    FaultKind.DOWN: Knob((M.DECK,), "20 to 60 s without an exchange: refused, cut, or 503", _down),
    FaultKind.CLOCK_SKEW: Knob(
        (M.DECK,),
        "the exchange's clock is 2 s off for a while: requests, and the times of events",
        lambda dice, symbol: {"ms": dice.choice((-2_000, 2_000)), "seconds": dice.randint(10, 600)},
    ),
    FaultKind.SYMBOL_STATUS: Knob((M.DECK,), "HALT, BREAK or CANCEL_ONLY for up to five minutes", _halt),
    FaultKind.FILTER_CHANGE: Knob(
        (M.DECK,), "another tick or least notional; the bot's copy is old", _filters
    ),
    FaultKind.FOREIGN_ORDER: Knob((M.DECK,), "somebody buys by hand on the bot's account", _foreign),
    FaultKind.WITHDRAWAL: Knob(
        (M.DECK,),
        "10 USDT leave the account",
        lambda dice, symbol: {"values": {"asset": "USDT", "amount": "10"}},
    ),
    FaultKind.RESET: Knob(
        (M.DECK,),
        "orders, trades and balances are gone; a person accepts it and a new ledger begins (once a seed)",
        lambda dice, symbol: {"values": GRANT},
    ),
}


class Knobs:
    """Turns the knobs of one venue as the dice fall."""

    def __init__(self, venue: Venue, faults: Faults, symbols: list[str]) -> None:
        self._venue, self._faults, self._symbols = venue, faults, symbols
        self._incidents = Incidents(venue)
        self._deck: list[FaultKind] = []
        self._wiped = False
        self.turned: Counter[str] = Counter()
        self.note: Callable[[str], None] = lambda text: None

    def turn(self, kind: FaultKind, **where: Any) -> None:
        """Arm `kind` once with drawn values; what acts at once has acted then."""
        values = KNOBS[kind].values(self._faults.rng, self._faults.rng.choice(self._symbols))
        try:
            self._incidents.arm({"kind": kind, **values, **where})
        except ExchangeError:
            return  # a foreign order while the symbol is halted: nobody can place it either
        self.turned[kind] += 1

    def draw(self, moment: Moment, **where: Any) -> None:
        """Turn one of the moment's knobs, if the dice say so."""
        if self._faults.draws(CHANCES[moment]):
            kinds = self._kinds_of(moment)
            if kinds:
                self.turn(self._faults.rng.choice(kinds), **where)

    def begin_minute(self) -> None:
        """What a busy minute begins with."""
        for kind in self._kinds_of(Moment.MINUTE):
            if self._faults.draws(CHANCES[Moment.MINUTE]):
                self.turn(kind)
        if self._faults.draws(CHANCES[Moment.DECK]):
            if not self._deck:
                self._deck = self._kinds_of(Moment.DECK)
                self._faults.rng.shuffle(self._deck)
            if self._deck:
                self._turn_card(self._deck.pop())

    def _turn_card(self, kind: FaultKind) -> None:
        if kind is FaultKind.RESET and self._wiped:
            return
        self._wiped = self._wiped or kind is FaultKind.RESET
        self.note(f"fault: {kind}")
        self.turn(kind)

    def _kinds_of(self, moment: Moment) -> list[FaultKind]:
        return [kind for kind, knob in KNOBS.items() if moment in knob.moments and self._faults.allows(kind)]

    def has_turned(self, *kinds: FaultKind) -> bool:
        """Whether one of `kinds` has acted at least once."""
        return any(self.turned[kind] for kind in kinds)

    def fired(self) -> Counter[str]:
        """How often each kind struck: what acts at once when it was turned, the rest when it met its occasion."""
        struck: Counter[str] = Counter()
        for fault in self._venue.desk.faults.listing():
            if fault["kind"] not in AT_ONCE:
                struck[str(fault["kind"])] += len(fault["firings"])
        return struck + Counter({str(kind): self.turned[kind] for kind in AT_ONCE if self.turned[kind]})
