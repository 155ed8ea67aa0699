"""Read a candle file: CSV or CSV.gz with the columns open_time_ms,open,high,low,close,volume."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from simulator.decimals import decimals_of, to_units
from simulator.market.candles import MINUTE_MS, RawCandle

HEADER = ["open_time_ms", "open", "high", "low", "close", "volume"]
FILE_NAME = re.compile(r"^([A-Z0-9]+)-1m[-.]")
# Recorders that print floats write small volumes as 9e-05; that is a number, too.
NUMBER = re.compile(r"^[0-9]{1,10}(\.[0-9]{1,17})?(e-0?[1-8])?$")
# Epoch milliseconds between 2009 and 2100: catches seconds and microseconds.
PLAUSIBLE_MS = range(1_230_768_000_000, 4_102_444_800_000)


class RecordingError(Exception):
    """The file cannot be replayed; the text names it and, if there is one, the line."""


@dataclass(slots=True, frozen=True)
class Recording:
    symbol: str
    candles: list[RawCandle]
    price_decimals: int
    quantity_decimals: int
    digest: str


def read_recording(path: Path) -> Recording:
    """All candles of a file, checked line by line.

    Raises RecordingError when the name does not begin with `<SYMBOL>-1m-`, the file cannot be read, or a
    line is malformed, inconsistent (high below low, ...), off the minute or not after the line before.
    """
    match = FILE_NAME.match(path.name)
    if match is None:
        raise RecordingError(f"{path}: the name must begin with the symbol, like BTCUSDT-1m-2023-03.csv.gz")
    text = _read_text(path)
    candles: list[RawCandle] = []
    decimals = [0, 0]
    rows = csv.reader(io.StringIO(text))
    if next(rows, None) != HEADER:
        raise RecordingError(f"{path}:1: the header must be {','.join(HEADER)}")
    for row in rows:
        try:
            candle = _parse_row(row, decimals)
            if candles and candle.open_ms <= candles[-1].open_ms:
                raise ValueError(f"open time {candle.open_ms} is not after {candles[-1].open_ms}")
        except ValueError as error:
            raise RecordingError(f"{path}:{rows.line_num}: {error}") from None
        candles.append(candle)
    if len(candles) < 2:
        raise RecordingError(f"{path}: holds {len(candles)} candles, at least 2 are needed")
    digest = f"{zlib.crc32(text.encode()):08x}"
    return Recording(match.group(1), candles, decimals[0], decimals[1], digest)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("ascii")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: is a broken gzip file: {error}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecordingError(f"{path}:{line}: is not plain text") from None


def _parse_row(row: list[str], decimals: list[int]) -> RawCandle:
    if len(row) != len(HEADER):
        raise ValueError(f"{len(row)} fields instead of {len(HEADER)}")
    for name, text in zip(HEADER[1:], row[1:], strict=True):
        if not NUMBER.match(text):
            raise ValueError(f"{name} {text!r} is not a plain number")
    if not re.fullmatch("[0-9]{13}", row[0]):
        raise ValueError(f"open_time_ms {row[0]!r} is not a time in epoch milliseconds")
    open_ms = int(row[0])
    values = [Decimal(text) for text in row[1:]]
    if open_ms not in PLAUSIBLE_MS or open_ms % MINUTE_MS:
        raise ValueError(f"open time {open_ms} is not a whole minute in epoch milliseconds")
    candle = RawCandle(open_ms, *map(to_units, values))
    if not 0 < candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high:
        raise ValueError(
            f"prices contradict each other: open {row[1]} high {row[2]} low {row[3]} close {row[4]}"
        )
    for place, group in ((0, values[:4]), (1, values[4:])):
        decimals[place] = max(decimals[place], *(decimals_of(value) for value in group), 0)
    return candle
