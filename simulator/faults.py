"""Armed misbehaviour: what goes wrong, for which requests, how often, and when it did.

Nothing here does any I/O or reads a clock: the servers ask it before they act, and so can a rehearsal that
drives the engine under stepped time (`FaultBook.mishaps`, `FaultBook.take`, `EventPipe`). With a seed every
draw of a probability or of a delay is the same in every run.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Generic, TypeVar

FIRINGS_KEPT_MAX = 200
COUNT_MAX = 1_000_000
DELAY_MS_MAX = 600_000
SECONDS_MAX = 7 * 86_400.0
REORDER_HOLD_MS = 1_000


class FaultKind(StrEnum):
    """What a fault does. Those of `AT_ONCE` act when they are armed, the others wait for their occasion."""

    # Requests.
    DROP_ANSWER = "drop_answer"
    """Execute the request, then close the connection without an answer."""
    DELAY_MS = "delay_ms"
    """Wait `ms` before executing (phase before) or before answering (phase after)."""
    STATUS = "status"
    """Answer with `status` and a body, without executing (phase before) or after executing (phase after);
    `ms` before the answer leaves."""
    NOT_FOUND_LAG = "not_found_lag"
    """Orders younger than `seconds` are unknown to order queries and absent from lists, `count` times."""
    RATE_LIMIT = "rate_limit"
    """429 with Retry-After for `seconds`; who goes on meanwhile is banned with 418, ever longer."""

    # User events.
    MUTE_USER_EVENTS = "mute_user_events"
    """Swallow `count` user events; `path` may name an event type such as executionReport."""
    DUPLICATE_USER_EVENTS = "duplicate_user_events"
    """Send them `times` times."""
    DELAY_USER_EVENTS = "delay_user_events"
    """Hold them back for `ms`; later ones overtake them."""
    REORDER_USER_EVENTS = "reorder_user_events"
    """Send them after the account's next event (or after `ms`, if none comes)."""

    # Messages of market streams; `path` is the beginning of a stream's name.
    MUTE_MARKET = "mute_market"
    DUPLICATE_MARKET = "duplicate_market"
    """Send them `times` times: a flood."""
    TRUNCATE_MARKET = "truncate_market"
    """Send the first half of the frame's text."""
    MUTE_CLOSED_KLINE = "mute_closed_kline"
    """Swallow kline messages with x:true: a gap that no message tells of."""

    # The matching engine.
    PARTIAL_FILL = "partial_fill"
    """An order's next fill ends at `fraction` of its quantity; then nothing fills it for `seconds`."""
    REJECT_PENDING = "reject_pending"
    """The pending legs of an order list are rejected when their turn comes."""

    # At once.
    CLOSE_WS = "close_ws"
    """Close open sockets of `path` (/ws, /stream, /ws-api/v3) with `close_code`, at most `count`."""
    HALF_OPEN = "half_open"
    """Open sockets of `path` send nothing more, not even pings, for `seconds`, and stay open."""
    SERVER_SHUTDOWN = "server_shutdown"
    """Open sockets of `path` hear serverShutdown and are closed after `ms`."""
    DOWN = "down"
    """For `seconds` the exchange refuses connections (`mode` refuse), cuts them (reset) or answers 503."""
    CLOCK_SKEW = "clock_skew"
    """Server time is off by `ms` (may be negative) for `seconds`; 0 is until the next clock_skew."""
    SYMBOL_STATUS = "symbol_status"
    """`symbol` goes to `value` (HALT, BREAK, CANCEL_ONLY, TRADING) for `seconds`; 0 is for good."""
    FILTER_CHANGE = "filter_change"
    """`symbol` gets other filters: `values` like {"tick_size": "0.1", "min_notional": "10"}."""
    FOREIGN_ORDER = "foreign_order"
    """Somebody places an order on the account of `api_key`: `values` are those of POST order."""
    WITHDRAWAL = "withdrawal"
    """`values` {"asset", "amount"} leave the account of `api_key`."""
    RESET = "reset"
    """The testnet's monthly wipe: orders, trades and balances vanish, keys stay."""


MARKET_MESSAGES = frozenset(
    {FaultKind.MUTE_MARKET, FaultKind.DUPLICATE_MARKET, FaultKind.TRUNCATE_MARKET}
)  # fmt: skip
USER_EVENTS = frozenset(
    {
        FaultKind.MUTE_USER_EVENTS, FaultKind.DELAY_USER_EVENTS, FaultKind.REORDER_USER_EVENTS,
        FaultKind.DUPLICATE_USER_EVENTS,
    }
)  # fmt: skip
AT_ONCE = frozenset(
    {
        FaultKind.CLOSE_WS, FaultKind.HALF_OPEN, FaultKind.SERVER_SHUTDOWN, FaultKind.DOWN,
        FaultKind.CLOCK_SKEW, FaultKind.SYMBOL_STATUS, FaultKind.FILTER_CHANGE, FaultKind.FOREIGN_ORDER,
        FaultKind.WITHDRAWAL, FaultKind.RESET, FaultKind.RATE_LIMIT,
    }
)  # fmt: skip
DOWN_MODES = ("refuse", "reset", "status")


class Phase(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Fault:
    """`method`, `path` (a prefix) and `symbol` choose the occasions; empty means any. WS API requests have
    the method WS and a path like /ws-api/v3/order.place. Each occasion is drawn with `probability`; with
    `ms_max` the wait is drawn between `ms` and it."""

    fault_id: int
    kind: FaultKind
    count: int
    method: str = ""
    path: str = ""
    symbol: str = ""
    probability: float = 1.0
    seed: int = 0
    phase: Phase = Phase.BEFORE
    ms: int = 0
    ms_max: int = 0
    status: int = 503
    code: int = -1000
    msg: str = "An unknown error occurred while processing the request."
    retry_after_s: int = 1
    seconds: float = 0.0
    close_code: int = 1001
    times: int = 2
    fraction: float = 0.5
    mode: str = "refuse"
    value: str = ""
    api_key: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    firings: list[dict[str, Any]] = field(default_factory=list)

    def matches(self, method: str, path: str, symbol: str, phase: Phase | None) -> bool:
        return (
            self.count > 0
            and self.method in ("", method)
            and self.symbol in ("", symbol)
            and path.startswith(self.path)
            and phase in (None, self.phase)
        )


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str, "count": int, "method": str, "path": str, "symbol": str, "probability": (int, float),
    "seed": int, "phase": str, "ms": int, "ms_max": int, "status": int, "code": int, "msg": str,
    "retry_after_s": int, "seconds": (int, float), "close_code": int, "times": int, "fraction": (int, float),
    "mode": str, "value": str, "api_key": str, "values": dict,
}  # fmt: skip


@dataclass(slots=True, frozen=True)
class Mishaps:
    """What goes wrong with one request, in the order in which it does."""

    delay_before_ms: int = 0
    answer_before: Fault | None = None
    delay_after_ms: int = 0
    answer_after: Fault | None = None
    drop_answer: bool = False


NO_MISHAPS = Mishaps()


class FaultBook:
    """All faults of a server, armed and spent."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._armed: dict[FaultKind, list[Fault]] = {}
        self._random: dict[int, Random] = {}

    def arm(self, values: dict[str, Any]) -> Fault:
        """Arm a fault from its JSON. Raises ValueError with a sentence when something is wrong in it."""
        fault = parse_fault(values, len(self._faults) + 1)
        self._faults.append(fault)
        self._armed.setdefault(fault.kind, []).append(fault)
        self._random[fault.fault_id] = Random(fault.seed or fault.fault_id)
        return fault

    def take(
        self,
        kind: FaultKind,
        method: str,
        path: str,
        now_ms: int,
        phase: Phase | None = None,
        symbol: str = "",
    ) -> Fault | None:
        """The first armed fault for this occasion, counted as fired; None when there is none."""
        for fault in self._armed.get(kind, ()):
            if not fault.matches(method, path, symbol, phase):
                continue
            if fault.probability < 1 and self._random[fault.fault_id].random() >= fault.probability:
                continue
            self.fire(fault, method, path, now_ms)
            return fault
        return None

    def fire(self, fault: Fault, method: str, path: str, now_ms: int) -> None:
        """Count a fault as fired."""
        fault.count -= 1
        fault.firings.append({"time": now_ms, "method": method, "path": path})
        del fault.firings[:-FIRINGS_KEPT_MAX]
        if not fault.count:
            self._armed[fault.kind].remove(fault)

    def wait_ms(self, fault: Fault) -> int:
        """How long this firing waits: `ms`, or drawn between it and `ms_max`."""
        if fault.ms_max <= fault.ms:
            return fault.ms
        return self._random[fault.fault_id].randint(fault.ms, fault.ms_max)

    def mishaps(self, method: str, path: str, symbol: str, now_ms: int) -> Mishaps:
        """Everything that goes wrong with a request; each fault taken counts as fired."""
        if not self._armed:
            return NO_MISHAPS

        def take(kind: FaultKind, phase: Phase | None) -> Fault | None:
            return self.take(kind, method, path, now_ms, phase, symbol)

        def waits(fault: Fault | None) -> int:
            return self.wait_ms(fault) if fault is not None else 0

        delay_before = waits(take(FaultKind.DELAY_MS, Phase.BEFORE))
        before = take(FaultKind.STATUS, Phase.BEFORE)
        if before is not None:
            return Mishaps(delay_before + waits(before), before)
        delay_after = waits(take(FaultKind.DELAY_MS, Phase.AFTER))
        after = take(FaultKind.STATUS, Phase.AFTER)
        drop = after is None and take(FaultKind.DROP_ANSWER, None) is not None
        return Mishaps(delay_before, None, delay_after + waits(after), after, drop)

    @property
    def has_been_armed(self) -> bool:
        """Whether there ever was a fault since they were all disarmed."""
        return bool(self._armed)

    def any_armed(self, kinds: frozenset[FaultKind]) -> bool:
        """Whether it is worth asking at all."""
        return self.has_been_armed and any(self._armed.get(kind) for kind in kinds)

    def armed(self, kind: FaultKind, method: str, path: str, symbol: str = "") -> Fault | None:
        """Like take(), without drawing or counting."""
        for fault in self._armed.get(kind, ()):
            if fault.matches(method, path, symbol, None):
                return fault
        return None

    def disarm(self, fault: Fault) -> None:
        """Let a fault do nothing more."""
        if fault.count:
            fault.count = 0
            self._armed[fault.kind].remove(fault)

    def disarm_all(self) -> None:
        for fault in self._faults:
            fault.count = 0
        self._armed.clear()

    def listing(self) -> list[dict[str, Any]]:
        """Every fault with what is left of its count and when it fired."""
        return [asdict(fault) | {"armed": fault.count > 0} for fault in self._faults]


def parse_fault(values: dict[str, Any], fault_id: int = 0) -> Fault:
    """A fault from its JSON or TOML. Raises ValueError with a sentence when something is wrong in it."""
    for name, value in values.items():
        if name not in _FIELDS:
            raise ValueError(f"unknown field {name!r}; known: {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
            raise ValueError(f"{name} has the wrong type: {value!r}")
    chosen = dict(values)
    try:
        kind = FaultKind(chosen.pop("kind", ""))
        phase = Phase(chosen.pop("phase", Phase.AFTER if kind is FaultKind.DROP_ANSWER else Phase.BEFORE))
    except ValueError as error:
        raise ValueError(f"{error}; kinds: {', '.join(FaultKind)}; phases: before, after") from None
    fault = Fault(fault_id=fault_id, kind=kind, phase=phase, count=chosen.pop("count", 1), **chosen)
    _check_ranges(fault)
    return fault


def _check_ranges(fault: Fault) -> None:
    skew = fault.kind is FaultKind.CLOCK_SKEW
    rules = (
        (1 <= fault.count <= COUNT_MAX, f"count must be 1 to {COUNT_MAX}"),
        ((-DELAY_MS_MAX if skew else 0) <= fault.ms <= DELAY_MS_MAX, f"ms must be 0 to {DELAY_MS_MAX}"),
        (0 <= fault.ms_max <= DELAY_MS_MAX, f"ms_max must be 0 to {DELAY_MS_MAX}"),
        (400 <= fault.status <= 599, "status must be 400 to 599"),
        (0 <= fault.seconds <= SECONDS_MAX, "seconds must not be negative, nor more than a week"),
        (1000 <= fault.close_code <= 4999, "close_code must be 1000 to 4999"),
        (0 < fault.probability <= 1, "probability must be above 0 and at most 1"),
        (2 <= fault.times <= 10_000, "times must be 2 to 10000"),
        (0 <= fault.fraction < 1, "fraction must be at least 0 and below 1"),
        (fault.mode in DOWN_MODES, f"mode must be one of {', '.join(DOWN_MODES)}"),
        (fault.retry_after_s >= 0, "retry_after_s must not be negative"),
    )
    for holds, sentence in rules:
        if not holds:
            raise ValueError(sentence)


Item = TypeVar("Item")


class EventPipe(Generic[Item]):
    """User events on their way out, with what the faults do to them. `key` is whose events they are."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._held: list[tuple[int, bool, Hashable, Item]] = []

    def push(self, key: Hashable, name: str, symbol: str, item: Item, now_ms: int) -> list[Item]:
        """What is to be sent now, in order; `name` is the event's type."""
        if not self._held and not self._faults.any_armed(USER_EVENTS):
            return [item]

        def take(kind: FaultKind) -> Fault | None:
            return self._faults.take(kind, "WS", name, now_ms, None, symbol)

        if take(FaultKind.MUTE_USER_EVENTS) is not None:
            return []
        if (late := take(FaultKind.DELAY_USER_EVENTS)) is not None:
            self._held.append((now_ms + self._faults.wait_ms(late), False, key, item))
            return []
        if (moved := take(FaultKind.REORDER_USER_EVENTS)) is not None:
            self._held.append((now_ms + (self._faults.wait_ms(moved) or REORDER_HOLD_MS), True, key, item))
            return []
        twin = take(FaultKind.DUPLICATE_USER_EVENTS)
        overtaken = [held for held in self._held if held[1] and held[2] == key]
        self._held = [held for held in self._held if held not in overtaken]
        return [item] * (twin.times if twin else 1) + [held[3] for held in overtaken]

    @property
    def next_due_ms(self) -> int | None:
        """When the next event that is held back is due; None when none is."""
        return min((held[0] for held in self._held), default=None)

    def due(self, now_ms: int) -> list[Item]:
        """Events whose time has come."""
        ready = sorted((held for held in self._held if held[0] <= now_ms), key=lambda held: held[0])
        self._held = [held for held in self._held if held[0] > now_ms]
        return [held[3] for held in ready]
