"""Armed misbehaviour: what goes wrong, for which requests, how often, and when it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

FIRINGS_KEPT_MAX = 200
COUNT_MAX = 1_000_000
DELAY_MS_MAX = 600_000


class FaultKind(StrEnum):
    """What a fault does."""

    DROP_ANSWER = "drop_answer"
    """Execute the request, then close the connection without an answer."""
    DELAY_MS = "delay_ms"
    """Wait `ms` before executing (phase before) or before answering (phase after)."""
    STATUS = "status"
    """Answer with `status` and a body, without executing (phase before) or after executing (phase after)."""
    MUTE_USER_EVENTS = "mute_user_events"
    """Swallow `count` user events; `path` may name an event type such as executionReport."""
    CLOSE_WS = "close_ws"
    """Close open sockets of `path` (/ws, /stream, /ws-api/v3) with `close_code`, at once, at most `count`."""
    NOT_FOUND_LAG = "not_found_lag"
    """Orders younger than `seconds` are unknown to order queries and absent from lists, `count` times."""


class Phase(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Fault:
    """`method` and `path` (a prefix) choose the requests; empty means any. WS API requests have the method
    WS and a path like /ws-api/v3/order.place."""

    fault_id: int
    kind: FaultKind
    count: int
    method: str = ""
    path: str = ""
    phase: Phase = Phase.BEFORE
    ms: int = 0
    status: int = 503
    code: int = -1000
    msg: str = "An unknown error occurred while processing the request."
    seconds: float = 0.0
    close_code: int = 1001
    firings: list[dict[str, Any]] = field(default_factory=list)

    def matches(self, kind: FaultKind, method: str, path: str, phase: Phase | None) -> bool:
        return (
            self.count > 0
            and self.kind is kind
            and self.method in ("", method)
            and path.startswith(self.path)
            and phase in (None, self.phase)
        )


_FIELDS: dict[str, type] = {
    "kind": str,
    "count": int,
    "method": str,
    "path": str,
    "phase": str,
    "ms": int,
    "status": int,
    "code": int,
    "msg": str,
    "seconds": (int, float),  # type: ignore[dict-item]
    "close_code": int,
}


class FaultBook:
    """All faults of a server, armed and spent."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def arm(self, values: dict[str, Any]) -> Fault:
        """Arm a fault from its JSON. Raises ValueError with a sentence when something is wrong in it."""
        for name, value in values.items():
            if name not in _FIELDS:
                raise ValueError(f"unknown field {name!r}; known: {', '.join(_FIELDS)}")
            if not isinstance(value, _FIELDS[name]) or isinstance(value, bool):
                raise ValueError(f"{name} has the wrong type: {value!r}")
        chosen = dict(values)
        try:
            kind = FaultKind(chosen.pop("kind", ""))
            phase = Phase(chosen.pop("phase", _default_phase(kind)))
        except ValueError as error:
            raise ValueError(f"{error}; kinds: {', '.join(FaultKind)}; phases: before, after") from None
        count = chosen.pop("count", 1)
        fault = Fault(fault_id=len(self._faults) + 1, kind=kind, phase=phase, count=count, **chosen)
        _check_ranges(fault)
        self._faults.append(fault)
        return fault

    def take(
        self, kind: FaultKind, method: str, path: str, now_ms: int, phase: Phase | None = None
    ) -> Fault | None:
        """The first armed fault for this request, counted as fired; None when there is none."""
        for fault in self._faults:
            if fault.matches(kind, method, path, phase):
                fault.count -= 1
                fault.firings.append({"time": now_ms, "method": method, "path": path})
                del fault.firings[:-FIRINGS_KEPT_MAX]
                return fault
        return None

    def armed(self, kind: FaultKind, method: str, path: str) -> Fault | None:
        """Like take(), without counting."""
        return next((fault for fault in self._faults if fault.matches(kind, method, path, None)), None)

    def disarm_all(self) -> None:
        for fault in self._faults:
            fault.count = 0

    def listing(self) -> list[dict[str, Any]]:
        """Every fault with what is left of its count and when it fired."""
        return [asdict(fault) | {"armed": fault.count > 0} for fault in self._faults]


def _default_phase(kind: FaultKind) -> Phase:
    return Phase.AFTER if kind is FaultKind.DROP_ANSWER else Phase.BEFORE


def _check_ranges(fault: Fault) -> None:
    if not 1 <= fault.count <= COUNT_MAX:
        raise ValueError(f"count must be 1 to {COUNT_MAX}")
    if not 0 <= fault.ms <= DELAY_MS_MAX:
        raise ValueError(f"ms must be 0 to {DELAY_MS_MAX}")
    if not 400 <= fault.status <= 599:
        raise ValueError("status must be 400 to 599")
    if fault.seconds < 0:
        raise ValueError("seconds must not be negative")
    if not 1000 <= fault.close_code <= 4999:
        raise ValueError("close_code must be 1000 to 4999")
