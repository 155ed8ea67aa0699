"""Read a recorded market: candles or trades, as CSV, CSV.gz or ZIP.

Layouts: the columns open_time_ms,open,high,low,close,volume under a header; and what Binance publishes for
download (no header, milliseconds or, since 2025, microseconds): klines with 12 columns and aggTrades with 8.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from simulator.decimals import decimals_of, to_units
from simulator.market.candles import MINUTE_MS, RawCandle
from simulator.market.sources import RecordedTrades

HEADER = ["open_time_ms", "open", "high", "low", "close", "volume"]
KLINE_COLUMNS = 12
TRADE_COLUMNS = 8
FILE_NAME = re.compile(r"^([A-Z0-9]+)-(1m|aggTrades)[-.]")
# Recorders that print floats write small volumes as 9e-05; that is a number, too.
NUMBER = re.compile(r"^[0-9]{1,10}(\.[0-9]{1,17})?(e-0?[1-8])?$")
# Epoch milliseconds between 2009 and 2100: catches seconds and microseconds.
PLAUSIBLE_MS = range(1_230_768_000_000, 4_102_444_800_000)


TEXT_BYTES_MAX = 2 << 30


class RecordingError(Exception):
    """The file cannot be replayed; the text names it and, if there is one, the line."""


@dataclass(slots=True, frozen=True)
class Recording:
    """`trades` are there when the file holds trades; the candles are then made of them."""

    symbol: str
    candles: list[RawCandle]
    trades: RecordedTrades | None
    price_decimals: int
    quantity_decimals: int
    digest: str


def read_recording(path: Path) -> Recording:
    """Everything in a file, checked line by line.

    Raises RecordingError when the name does not begin with `<SYMBOL>-1m-` or `<SYMBOL>-aggTrades-`, the file
    cannot be read, or a line is malformed, inconsistent (high below low, ...), off the minute or not after the
    line before.
    """
    match = FILE_NAME.match(path.name)
    if match is None:
        raise RecordingError(
            f"{path}: the name must begin with the symbol and what it holds, like BTCUSDT-1m-2023-03.csv.gz or "
            "BTCUSDT-aggTrades-2023-03-01.zip"
        )
    text = _read_text(path)
    decimals = [0, 0]
    trades = _read_trades(path, text, decimals) if match.group(2) == "aggTrades" else None
    candles = trades.candles() if trades is not None else _read_candles(path, text, decimals)
    if len(candles) < 2:
        raise RecordingError(f"{path}: holds {len(candles)} candles, at least 2 are needed")
    digest = f"{zlib.crc32(text.encode()):08x}"
    return Recording(match.group(1), candles, trades, decimals[0], decimals[1], digest)


def _read_candles(path: Path, text: str, decimals: list[int]) -> list[RawCandle]:
    candles: list[RawCandle] = []
    rows = csv.reader(io.StringIO(text))
    is_published = len(text.partition("\n")[0].split(",")) == KLINE_COLUMNS
    if not is_published and next(rows, None) != HEADER:
        raise RecordingError(f"{path}:1: the header must be {','.join(HEADER)}")
    for row in rows:
        try:
            candle = _parse_row(_plain_row(row) if is_published else row, decimals)
            if candles and candle.open_ms <= candles[-1].open_ms:
                raise ValueError(f"open time {candle.open_ms} is not after {candles[-1].open_ms}")
        except ValueError as error:
            raise RecordingError(f"{path}:{rows.line_num}: {error}") from None
        candles.append(candle)
    return candles


def _plain_row(row: list[str]) -> list[str]:
    """The first six columns of a published kline, its time in milliseconds."""
    if len(row) != KLINE_COLUMNS:
        raise ValueError(f"{len(row)} fields instead of {KLINE_COLUMNS}")
    return [_in_milliseconds(row[0]), *row[1:6]]


def _in_milliseconds(text: str) -> str:
    return text[:-3] if re.fullmatch("[0-9]{16}", text) else text


def _read_trades(path: Path, text: str, decimals: list[int]) -> RecordedTrades:
    trades = RecordedTrades()
    rows = csv.reader(io.StringIO(text))
    last_id = -1
    for row in rows:
        try:
            last_id = _take_trade(row, last_id, trades, decimals)
        except ValueError as error:
            raise RecordingError(f"{path}:{rows.line_num}: {error}") from None
    return trades


def _take_trade(row: list[str], last_id: int, trades: RecordedTrades, decimals: list[int]) -> int:
    """Add one aggTrade; hands back its id."""
    if len(row) != TRADE_COLUMNS:
        raise ValueError(f"{len(row)} fields instead of {TRADE_COLUMNS}")
    number, price_text, quantity_text, _, _, time_text, maker_text, _ = row
    if not number.isdecimal() or int(number) <= last_id:
        raise ValueError(f"aggregate trade id {number!r} is not after {last_id}")
    for name, text in (("price", price_text), ("quantity", quantity_text)):
        if not NUMBER.match(text):
            raise ValueError(f"{name} {text!r} is not a plain number")
    time_text = _in_milliseconds(time_text)
    if not re.fullmatch("[0-9]{13}", time_text) or int(time_text) not in PLAUSIBLE_MS:
        raise ValueError(f"time {row[5]!r} is not a time in epoch milliseconds or microseconds")
    if maker_text.lower() not in ("true", "false"):
        raise ValueError(f"isBuyerMaker {maker_text!r} is neither True nor False")
    time_ms, price, quantity = int(time_text), Decimal(price_text), Decimal(quantity_text)
    if len(trades) and time_ms < trades.last_ms:
        raise ValueError(f"time {time_ms} is before {trades.last_ms}")
    if price <= 0 or quantity <= 0:
        raise ValueError("price and quantity must be above zero")
    trades.append(time_ms, to_units(price), to_units(quantity), maker_text.lower() == "true")
    decimals[0] = max(decimals[0], decimals_of(price))
    decimals[1] = max(decimals[1], decimals_of(quantity))
    return int(number)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".zip":
            data = _only_member(path, data)
        return data.decode("ascii")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: is a broken {path.suffix[1:]} file: {error}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecordingError(f"{path}:{line}: is not plain text") from None


def _only_member(path: Path, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise RecordingError(f"{path}: holds {len(members)} files, it must be one")
        if members[0].file_size > TEXT_BYTES_MAX:
            raise RecordingError(
                f"{path}: holds {members[0].file_size} bytes, at most {TEXT_BYTES_MAX} are read"
            )
        return archive.read(members[0])


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
