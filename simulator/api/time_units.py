"""Times in microseconds instead of milliseconds: header X-MBX-TIME-UNIT, or timeUnit in the address of a socket."""

from __future__ import annotations

from typing import Any

from simulator.engine.errors import ExchangeError

MILLISECOND, MICROSECOND = "MILLISECOND", "MICROSECOND"
ANSWER_TIMES = frozenset(
    {
        "serverTime", "time", "transactTime", "transactionTime", "updateTime", "workingTime", "trailingTime",
        "openTime", "closeTime", "T", "retryAfter", "authorizedSince", "connectedSince",
    }
)  # fmt: skip
EVENT_TIMES = {
    "24hrTicker": "EOC",
    "outboundAccountPosition": "Eu",
    "balanceUpdate": "ET",
    "executionReport": "ETOWD",
    "listStatus": "ET",
    "aggTrade": "ET",
    "trade": "ET",
    "avgPrice": "ET",
}
"""Names of the times in an event of each type; those of all other types have E alone."""
KLINE_ROW = 12
ROW_OPEN, ROW_CLOSE = 0, 6


def wants_microseconds(unit: str | None) -> bool:
    """Whether a client asked for microseconds. Raises -1194 for what is no unit."""
    if unit is None:
        return False
    if unit.upper() not in (MILLISECOND, MICROSECOND) or unit not in (unit.upper(), unit.lower()):
        raise ExchangeError(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
    return unit.upper() == MICROSECOND


def answer_in_microseconds(answer: Any) -> Any:
    """An answer of REST or of the WS API with all its times in microseconds."""
    if isinstance(answer, dict):
        return {
            name: _finer(value) if name in ANSWER_TIMES else answer_in_microseconds(value)
            for name, value in answer.items()
        }
    if not isinstance(answer, list):
        return answer
    if len(answer) == KLINE_ROW and isinstance(answer[ROW_OPEN], int):
        return [
            _finer(value) if place == ROW_OPEN else _last_of(value) if place == ROW_CLOSE else value
            for place, value in enumerate(answer)
        ]
    return [answer_in_microseconds(entry) for entry in answer]


def event_in_microseconds(event: Any) -> Any:
    """A market or account event, or a list of them, with all its times in microseconds."""
    if isinstance(event, list):
        return [event_in_microseconds(entry) for entry in event]
    # bookTicker and partial depth have no type, and no time.
    kind = event.get("e")
    if kind is None:
        return event
    names = EVENT_TIMES.get(kind, "E")
    finer = {name: _finer(value) if name in names else value for name, value in event.items()}
    if kind == "kline":
        candle = finer["k"]
        finer["k"] = candle | {"t": _finer(candle["t"]), "T": _last_of(candle["T"])}
    return finer


def _finer(value: Any) -> Any:
    """-1 and null stay: they are no times."""
    return value * 1000 if isinstance(value, int) and value > 0 else value


def _last_of(close_ms: int) -> int:
    """The last microsecond of a candle."""
    return close_ms * 1000 + 999
