"""`manage.py verify_candles --file CSV`: hold the stored candles against a recording, one by one."""

import gzip
import hashlib
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from market import rules
from market.contracts import DERIVED_INTERVALS, Candle, Interval
from market.rules.recordings import RecordedCandle, parse_recording
from market.selectors import candles as stored

SHOWN = 10
ALL = 1_000_000


class Command(BaseCommand):
    """Exit status 1 when any differs."""

    help = "Compare every stored 1m candle with a candle file, and every longer one with a recomputation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--file", type=Path, required=True, help="CSV or CSV.gz, named like BTCUSDT-1m-…")
        parser.add_argument("--symbol", help="default: what the file's name begins with")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        symbol = options["symbol"] or path.name.partition("-")[0]
        recorded, broken = parse_recording(_lines(path))
        for line in broken:
            digest = hashlib.sha256(line.text.encode()).hexdigest()
            self.stderr.write(f"{path.name}:{line.number}: refused, {line.why} (sha256 {digest})")
        compared, differences = compare(symbol, {c.open_time: c for c in recorded})
        for text in differences[:SHOWN]:
            self.stderr.write(text)
        counts = ", ".join(f"{interval} {count}" for interval, count in compared.items())
        self.stdout.write(f"compared: {sum(compared.values())} ({counts})")
        self.stdout.write(f"different: {len(differences)}")
        if not compared.get(Interval.M1):
            raise CommandError(f"no stored candle of {symbol} lies inside {path.name}")
        if differences:
            sys.exit(1)


def compare(symbol: str, recorded: dict[Any, RecordedCandle]) -> tuple[dict[Interval, int], list[str]]:
    """How many candles were compared per interval, and what differs in words; missing ones differ, too."""
    minutes = [c for c in stored.closed_candles(symbol, Interval.M1, ALL) if c.open_time in recorded]
    compared = {Interval.M1: 0}
    differences: list[str] = []
    if not minutes:
        return compared, differences
    first, last = minutes[0].open_time, minutes[-1].open_time
    have = {c.open_time: c for c in minutes}
    for at, truth in recorded.items():
        if first <= at <= last:
            compared[Interval.M1] += 1
            if at not in have or not _same(have[at], truth):
                differences.append(f"1m {at:%Y-%m-%d %H:%M}: stored {have.get(at)}, recorded {truth}")
    for interval in DERIVED_INTERVALS:
        span = rules.length(interval)
        expected = {
            c.open_time: c
            for c in rules.derive(minutes, interval, stored.absent_minutes(symbol, first, last))
        }
        there = {
            c.open_time: c
            for c in stored.closed_candles(symbol, interval, ALL)
            if first <= c.open_time and c.open_time + span <= last + rules.length(Interval.M1)
        }
        compared[interval] = len(expected | there)
        differences += [
            f"{interval} {at:%Y-%m-%d %H:%M}: stored {there.get(at)}, recomputed {expected.get(at)}"
            for at in expected | there
            if there.get(at) != expected.get(at)
        ]
    return compared, differences


def _same(candle: Candle, truth: RecordedCandle) -> bool:
    return all(
        getattr(candle, name) == getattr(truth, name) for name in ("open", "high", "low", "close", "volume")
    )


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")
    except (OSError, EOFError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    return text.splitlines()
