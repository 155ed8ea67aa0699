"""Candles as the indicators get them, and the recorded minutes: four hours of BTCUSDT of 2023-03-10."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from market.contracts import Candle
from market.rules.recordings import RecordedCandle, parse_recording
from market.rules.windows import BAR

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def packed(candles: Sequence[Candle | RecordedCandle]) -> bytes:
    """What PostgreSQL makes of the candles, with Python's float()."""
    return b"".join(
        BAR.pack((c.open_time - _EPOCH) // timedelta(microseconds=1), *map(float, (c.high, c.low, c.close, c.volume)))
        for c in candles
    )  # fmt: skip


def recorded_minutes() -> list[RecordedCandle]:
    """Contiguous 1m candles as they were."""
    lines = (Path(__file__).parent / "recorded_minutes.csv").read_text().splitlines()
    candles, broken = parse_recording(lines)
    assert not broken
    return candles
