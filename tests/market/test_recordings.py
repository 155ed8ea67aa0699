"""Candle files: their layouts, their broken lines, and `manage.py verify_candles`."""

import gzip
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from market import services
from market.contracts import Candle, Hole, Interval
from market.rules.recordings import parse_recording
from tests.market.builders import milliseconds, walk

HEADER = "open_time_ms,open,high,low,close,volume"


def line(candle: Candle, *, scale: int = 1) -> str:
    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return ",".join([str(milliseconds(candle.open_time) * scale), *map(str, numbers)])


def test_a_recording_with_its_header_is_read() -> None:
    candles = walk(3)

    read, broken = parse_recording([HEADER, *map(line, candles)])

    assert [(r.open_time, r.open, r.high, r.low, r.close, r.volume) for r in read] == [
        (c.open_time, c.open, c.high, c.low, c.close, c.volume) for c in candles
    ]
    assert broken == []


def test_a_download_in_microseconds_without_header_is_read() -> None:
    candles = walk(2)

    read, _ = parse_recording(f"{line(c, scale=1000)},1,2,3,4,5,0" for c in candles)

    assert [r.open_time for r in read] == [c.open_time for c in candles]


@pytest.mark.parametrize(
    "bad",
    [
        "x,1,1,1,1,1",
        "1677628800000,1,1,1,1",
        "1677628800001,1,1,1,1,1",
        "1677628800000000001,1,1,1,1,1",
        "1677628800000,NaN,1,1,1,1",
        "1677628800000,1,Infinity,1,1,1",
        "1677628800000,-1,1,-1,1,1",
        "1677628800000,0,0,0,0,1",
        "1677628800000,1,0.5,1,1,1",
        "1677628800000,1,1,1,1,-1",
        "1677628800000,1,1,1,1,1e-",
        "٣677628800000,1,1,1,1,1",
        "1" * 600,
    ],
    ids=lambda text: text[:30],
)
def test_a_broken_line_is_refused_with_its_number(bad: str) -> None:
    read, broken = parse_recording([HEADER, bad])

    assert read == []
    assert [b.number for b in broken] == [2]


def test_lines_out_of_order_and_repeated_are_refused() -> None:
    first, second = map(line, walk(2))

    read, broken = parse_recording([second, first, second])

    assert len(read) == 1
    assert [b.why for b in broken] == ["it is not after the line before"] * 2


@settings(deadline=None)
@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=60)))
def test_no_text_breaks_the_parser(lines: list[str]) -> None:
    read, _ = parse_recording(lines)

    assert all(r.low > 0 and r.volume >= 0 for r in read)


# --- the command ---
@pytest.fixture
def recording(tmp_path: Path, db: None, now: datetime) -> Path:
    """Three hours of which the middle two are stored."""
    minutes = walk(180)
    services.upsert_candles(candles=minutes[30:150], now=now)
    path = tmp_path / "BTCUSDT-1m-2026-03.csv.gz"
    path.write_bytes(gzip.compress("\n".join([HEADER, *map(line, minutes)]).encode()))
    return path


def verify(path: Path) -> tuple[int, str, str]:
    """Exit status, output and errors of the command."""
    out, errors = StringIO(), StringIO()
    try:
        call_command("verify_candles", file=path, symbol=None, stdout=out, stderr=errors)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), errors.getvalue()
    return 0, out.getvalue(), errors.getvalue()


def test_stored_candles_that_equal_the_file_are_counted(recording: Path) -> None:
    status, out, _ = verify(recording)

    assert status == 0
    assert "compared: 153 (1m 120, 5m 24, 15m 8, 1h 1, 4h 0, 1d 0)" in out
    assert "different: 0" in out


def test_a_different_minute_is_found_and_the_longer_candles_with_it(recording: Path, now: datetime) -> None:
    candle = walk(180)[70]
    services.upsert_candles(candles=[replace(candle, high=candle.high + 1)], now=now)

    status, out, errors = verify(recording)

    assert (status, "different: 1\n" in out) == (1, True)
    assert f"1m {candle.open_time:%Y-%m-%d %H:%M}" in errors


def test_a_longer_candle_that_is_wrong_or_missing_is_found(recording: Path, now: datetime) -> None:
    from market.models import Candle as Row

    Row.objects.filter(interval=Interval.M15).update(volume=Decimal(1))
    Row.objects.filter(interval=Interval.H1).delete()

    status, out, _ = verify(recording)

    assert (status, "different: 9\n" in out) == (1, True)


def test_a_missing_minute_is_found_even_when_it_is_on_record_as_a_hole(
    recording: Path, now: datetime
) -> None:
    from market.models import Candle as Row

    candle = walk(180)[71]
    Row.objects.filter(interval=Interval.M1, open_time=candle.open_time).delete()
    hole = Hole("BTCUSDT", candle.open_time, candle.close_time)
    services.upsert_candles(candles=[], missing=[hole], now=now)

    status, _, errors = verify(recording)

    assert status == 1
    assert "stored None" in errors


def test_broken_lines_are_told_once_with_their_hash_and_the_rest_is_compared(recording: Path) -> None:
    text = gzip.decompress(recording.read_bytes()).decode() + "\nnonsense"
    recording.write_bytes(gzip.compress(text.encode()))

    status, out, errors = verify(recording)

    assert status == 0 and "different: 0" in out
    assert errors.count(":182: refused") == 1 and "sha256" in errors


def test_a_file_of_another_time_or_symbol_compares_nothing_and_says_so(recording: Path) -> None:
    other = recording.rename(recording.with_name("ETHUSDT-1m-2026-03.csv.gz"))

    with pytest.raises(CommandError, match="no stored candle of ETHUSDT"):
        verify(other)


def test_a_file_that_is_no_gzip_is_refused(tmp_path: Path, db: None) -> None:
    path = tmp_path / "BTCUSDT-1m.csv.gz"
    path.write_bytes(b"not gzip")

    with pytest.raises(CommandError, match="cannot be read"):
        verify(path)
