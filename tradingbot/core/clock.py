"""The only reader of system time in the bot, so that a rehearsal can run a week in minutes."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


def _system_now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251


_source: Callable[[], datetime] = _system_now
_stepped = False


def now() -> datetime:
    """The present instant in UTC. Interfaces call this once and pass it down."""
    return _source()


def monotonic_seconds() -> float:
    """Seconds of a clock that never steps; for time-outs and latencies inside one process.

    Under a replaced source they are that source's seconds, so that a rehearsal repeats itself exactly.
    """
    return _source().timestamp() if _stepped else time.monotonic()


def set_source(source: Callable[[], datetime] | None) -> None:
    """Replace the clock (a rehearsal's stepped time) or, with None, restore the system's."""
    global _source, _stepped
    _source, _stepped = source or _system_now, source is not None


def to_milliseconds(instant: datetime) -> int:
    """Whole milliseconds since the epoch, as the exchange counts them."""
    return int(instant.timestamp() * 1000)


def from_milliseconds(milliseconds: int) -> datetime:
    """The UTC instant of an exchange timestamp in milliseconds; exact, without float rounding."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
