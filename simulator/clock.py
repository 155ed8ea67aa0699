"""The only reader of the system time in the simulator, and the clock of the market."""

from __future__ import annotations

import time
from collections.abc import Callable


def system_now_ms() -> int:
    """Wall clock in epoch milliseconds: the exchange's server time."""
    return time.time_ns() // 1_000_000


def monotonic_seconds() -> float:
    """Seconds for intervals; unrelated to any date."""
    return time.monotonic()


class MarketClock:
    """Market time: starts at `start_ms` and runs `speed` times as fast as the wall, unless paused; a paused
    one can be stepped."""

    def __init__(
        self, start_ms: int, speed: float, monotonic: Callable[[], float] = monotonic_seconds
    ) -> None:
        self._monotonic = monotonic
        self._anchor_ms = float(start_ms)
        self._anchor_wall = monotonic()
        self._speed = speed
        self._paused = False

    @property
    def speed(self) -> float:
        """Market seconds per wall second."""
        return self._speed

    @property
    def paused(self) -> bool:
        return self._paused

    def now_ms(self) -> int:
        """Market time in epoch milliseconds."""
        if self._paused:
            return int(self._anchor_ms)
        return int(self._anchor_ms + (self._monotonic() - self._anchor_wall) * self._speed * 1000)

    def set_paused(self, paused: bool) -> None:
        """Freeze or release market time; it goes on from where it stood."""
        self._anchor()
        self._paused = paused

    def set_speed(self, speed: float) -> None:
        """Run at another speed from now on."""
        self._anchor()
        self._speed = speed

    def step(self, milliseconds: int) -> None:
        """Move a paused clock on."""
        self._anchor_ms += milliseconds

    def _anchor(self) -> None:
        self._anchor_ms = float(self.now_ms())
        self._anchor_wall = self._monotonic()
