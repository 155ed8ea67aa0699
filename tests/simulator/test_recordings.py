"""Files in the layouts that Binance publishes: klines and aggTrades, CSV and ZIP, ms and µs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from simulator.market.recording import RecordingError, read_recording
from simulator.server.venue import Venue, VenueSettings

START_MS = 1_735_689_600_000
MINUTES = 6


def kline_line(minute: int, scale: int) -> str:
    open_ms = START_MS + minute * 60_000
    prices = "93576.00000000,93610.93000000,93537.50000000,93610.93000000"
    return (
        f"{open_ms * scale},{prices},8.21827000,{(open_ms + 60_000) * scale - 1},768978.37522470,2631,3.957,"
        "370281.2,0"
    )


def trade_lines(scale: int) -> list[str]:
    lines = []
    for number in range(MINUTES * 4):
        time_ms = START_MS + number * 15_000 + 7
        maker = "True" if number % 2 else "False"
        price = 93_500 + number
        lines.append(
            f"{100 + number},{price}.00000000,0.0{number + 1:02d}00000,1,2,{time_ms * scale},{maker},True"
        )
    return lines


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize("packed", [False, True])
def test_published_klines_are_read(tmp_path: Path, scale: int, packed: bool) -> None:
    text = "\n".join(kline_line(minute, scale) for minute in range(MINUTES)) + "\n"
    path = tmp_path / ("BTCUSDT-1m-2025-01-01.zip" if packed else "BTCUSDT-1m-2025-01-01.csv")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("BTCUSDT-1m-2025-01-01.csv", text)
    else:
        path.write_text(text)

    recording = read_recording(path)

    assert [candle.open_ms for candle in recording.candles] == [START_MS + n * 60_000 for n in range(MINUTES)]
    assert recording.candles[0].close == 9_361_093_000_000
    assert (recording.price_decimals, recording.quantity_decimals) == (2, 5)


@pytest.mark.parametrize("scale", [1, 1000])
def test_replayed_trades_are_those_of_the_file(tmp_path: Path, scale: int) -> None:
    path = tmp_path / "BTCUSDT-aggTrades-2025-01-01.csv"
    path.write_text("\n".join(trade_lines(scale)) + "\n")
    venue = Venue(VenueSettings(replay=(path,)))
    tape = venue.exchange.tapes["BTCUSDT"]
    while not tape.ended:
        tape.step()

    ticks = [tick for tick in tape.recent if tick.quantity]
    venue.close()

    assert [tick.price for tick in ticks] == [(93_500 + n) * 10**8 for n in range(MINUTES * 4)]
    assert [tick.buyer_is_maker for tick in ticks] == [bool(n % 2) for n in range(MINUTES * 4)]
    assert [tick.time_ms for tick in ticks] == [START_MS + n * 15_000 + 7 for n in range(MINUTES * 4)]
    assert len(tape.series) == MINUTES
    assert tape.series.at(0).close == 93_503 * 10**8


@pytest.mark.parametrize(
    ("name", "lines", "problem"),
    [
        ("BTCUSDT-1m-a.csv", [kline_line(0, 1), kline_line(1, 1)[:-2]], ":2: 11 fields"),
        ("BTCUSDT-1m-a.csv", [kline_line(1, 1), kline_line(0, 1)], ":2: open time"),
        ("BTCUSDT-aggTrades-a.csv", [*trade_lines(1)[:2], "1,2,3"], ":3: 3 fields"),
        ("BTCUSDT-aggTrades-a.csv", list(reversed(trade_lines(1))), ":2: aggregate trade id"),
        ("BTCUSDT-aggTrades-a.csv", [trade_lines(1)[0].replace("False", "Maybe")], ":1: isBuyerMaker"),
        ("BTCUSDT-aggTrades-a.csv", [trade_lines(1)[0].replace("93500.0", "NaN")], ":1: price"),
    ],
)
def test_broken_line_is_named(tmp_path: Path, name: str, lines: list[str], problem: str) -> None:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")

    with pytest.raises(RecordingError, match=problem):
        read_recording(path)


def test_archive_of_several_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", kline_line(0, 1))
        archive.writestr("b.csv", kline_line(1, 1))

    with pytest.raises(RecordingError, match="holds 2 files"):
        read_recording(path)


def test_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-a.zip"
    path.write_bytes(b"PK nonsense")

    with pytest.raises(RecordingError, match="broken zip"):
        read_recording(path)
