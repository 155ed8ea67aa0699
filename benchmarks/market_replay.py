"""A recorded day at speed through the real simulator and the real stream worker, with hundreds of faults.

    python -m tradingbot.launcher with-servers -- python -m benchmarks.market_replay --file CSV

The replay begins an hour before a midnight (UTC) and by default ends an hour after the next one, so that a
whole day lies inside. Afterwards every 1m candle in Postgres is held against the file and every longer one
against a recomputation (`manage.py verify_candles`); exit status 1 when one differs, or when no candle of a
day is among those compared.
"""

import argparse
import gzip
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.figures import CouldNotMeasure
from benchmarks.market_parts import ROOT, Exchange, Worker, set_up_django, wait_for
from benchmarks.market_proxy import FaultyWire

RECORDING = ROOT.parent / "shared" / "data" / "BTCUSDT-1m-2023-03-01_21.csv.gz"
RUN_SECONDS_MAX = 900
HISTORY_MINUTES = 600  # which the simulator gives a replay before it begins
LEAD_MINUTES = 60
DAY_MINUTES = 1440
# A reconnect costs 32 of the 3,600 of request weight a minute that our public reads may use. Once they are used
# up the stream stands still until the next minute, and its back-off has grown to 30 s by then. Faults that wait
# behind a long one must therefore not come in a burst.
REST_SECONDS = 0.75
PATIENCE_SECONDS = 120
CANDLES_MAX = 100_000
# Kind of fault -> how many of each hundred; those that last long are rare.
SHARES = {
    "cut": 16,
    "close": 14,
    "drop at the exchange": 14,
    "truncate": 14,
    "garbage": 10,
    "lose closes": 10,
    "stall": 8,
    "duplicate": 4,
    "reorder": 4,
    "flood": 2,
    "shutdown": 2,
}
RARE = ("half-open", "restart of the worker", "restart of the exchange") * 2
BREAKING = {"cut", "close", "drop at the exchange", "truncate", "shutdown", "half-open"}
SYMBOL = "BTCUSDT"


class Replay:
    """One run: processes, faults, and how far the market has come."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder = folder
        self._random = random.Random(options.seed)
        self._faults_wanted: int = options.faults
        self._market_ms = options.hours * 3_600_000
        self._gap_seconds = options.hours * 3600 / options.speed / options.faults
        recording = cut_to_a_day(options.file, folder)
        speed = ["--replay", str(recording), "--speed", str(options.speed)]
        self.exchange = Exchange(folder, *speed)
        self.exchange.start()
        self.wire = FaultyWire(self.exchange.port)
        set_up_django(folder, f"http://127.0.0.1:{self.wire.port}", SYMBOL)
        self.exchange.open_account(folder)
        self.worker = Worker("replay", folder / "worker.log")
        self.fired: Counter[str] = Counter()

    def run(self) -> None:
        """Faults until there were enough and the day is over."""
        began = time.monotonic()
        wait_for(self.is_well, "the streams are up", 60)
        first = self.market_time_ms()
        plan = self._plan()
        while plan or self.market_time_ms() - first < self._market_ms:
            if time.monotonic() - began > RUN_SECONDS_MAX:
                raise CouldNotMeasure(f"not over in {RUN_SECONDS_MAX} s; fired so far: {dict(self.fired)}")
            if plan and time.monotonic() - began >= sum(self.fired.values()) * self._gap_seconds:
                self._strike(plan.pop())
                time.sleep(REST_SECONDS)
                if sum(self.fired.values()) % 50 == 0:
                    hours = (self.market_time_ms() - first) / 3_600_000
                    print(f"{sum(self.fired.values())} faults, {hours:.1f} h of market", flush=True)
            else:
                time.sleep(0.05)
        self.hours = (self.market_time_ms() - first) / 3_600_000
        self.exchange.control("market", {"paused": True})
        wait_for(self.has_all, "the last candle is stored", 60)

    def _plan(self) -> list[str]:
        kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
        plan = [kinds[n % len(kinds)] for n in range(self._faults_wanted - len(RARE))] + list(RARE)
        self._random.shuffle(plan)
        return plan

    def _strike(self, kind: str) -> None:
        wait_for(self.is_well, f"the streams are up again after {dict(self.fired)}", PATIENCE_SECONDS)
        session = self.session()
        if kind == "restart of the worker":
            self.worker.kill()
            self.worker = Worker("replay", self._folder / "worker.log")
        elif kind == "restart of the exchange":
            self.exchange.kill()
            self.exchange.start()
        elif kind == "drop at the exchange":
            code = self._random.choice((1000, 1001, 1006, 1008, 1009))
            # All of them: one that is closing already would take a single blow for the living one.
            fault = {"kind": "close_ws", "path": "/stream", "close_code": code, "count": 10}
            self.exchange.control("faults", fault)
        else:
            self.wire.arm(kind, 14.0 if kind == "half-open" else self._random.uniform(0.5, 3.0))
            if not self.wire.wait_fired(90):
                raise CouldNotMeasure(f"the fault {kind} met no frame")
        if kind in BREAKING or kind.startswith("restart"):
            wait_for(lambda: self.session() > session, f"a new connection after {kind}", PATIENCE_SECONDS)
        self.fired[kind] += 1

    def is_well(self) -> bool:
        from market.models import FeedState

        row = FeedState.objects.filter(stream="market").values_list("connected", "resynced_at").first()
        return row is not None and row[0] and row[1] is not None

    def session(self) -> int:
        """The id of the newest connection."""
        from market.models import FeedSession

        return FeedSession.objects.filter(stream="market").order_by("-id").values_list("id", flat=True)[0]

    def market_time_ms(self) -> int:
        return int(self.exchange.control("market")["market_time_ms"])

    def has_all(self) -> bool:
        """Whether the newest closed candle of the exchange is stored."""
        from market.contracts import Interval
        from market.selectors.candles import last_open_times

        newest = last_open_times([SYMBOL], Interval.M1).get(SYMBOL)
        closed_before_ms = self.market_time_ms() // 60_000 * 60_000
        return newest is not None and newest.timestamp() * 1000 + 60_000 >= closed_before_ms

    def close(self) -> None:
        self.worker.stop()
        self.wire.stop()
        self.exchange.kill()


def report(replay: Replay) -> None:
    """What happened, from our count of the faults and the rows that the worker wrote."""
    from django.db.models import Count, Sum

    from market import selectors
    from market.contracts import Stream
    from market.models import CandleHole, FeedSession
    from tradingbot.core import clock

    print(f"\nfaults: {sum(replay.fired.values())}")
    for kind, count in replay.fired.most_common():
        print(f"  {count:4} {kind}")
    sessions = FeedSession.objects.filter(stream="market")
    totals: dict[str, Any] = sessions.aggregate(
        n=Count("id"), messages=Sum("message_count"), fetched=Sum("backfilled_candles")
    )
    rate = selectors.reconnect_rate(Stream.MARKET, clock.now())
    print(f"market time: {replay.hours:.1f} h")
    print(
        f"connections: {totals['n']}, messages: {totals['messages']}, candles fetched by REST: {totals['fetched']}"
    )
    print(f"ws_reconnect_success_rate: {rate.good} of {rate.total}")
    print(f"holes recorded: {CandleHole.objects.count()}")


def cut_to_a_day(file: Path, folder: Path) -> Path:
    """The file from the minute on that lets the simulator begin LEAD_MINUTES before a midnight."""
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("ascii").splitlines()
    minutes = [int(line.partition(",")[0]) // 60_000 for line in lines[1:]]
    before = HISTORY_MINUTES + LEAD_MINUTES
    midnight = -(-(minutes[0] + before) // DAY_MINUTES) * DAY_MINUTES
    if midnight - before not in minutes:
        raise CouldNotMeasure(f"{file} has no candle {before} minutes before the midnight to cross")
    cut = folder / f"{SYMBOL}-1m-replayed.csv"
    cut.write_text("\n".join([lines[0], *lines[1 + minutes.index(midnight - before) :]]) + "\n")
    return cut


def has_a_day() -> bool:
    """Whether the candle of a day all of whose minutes are stored was among those compared."""
    from market.contracts import Interval
    from market.selectors.candles import closed_candles, last_open_times

    day = last_open_times([SYMBOL], Interval.D1).get(SYMBOL)
    return day is not None and day >= closed_candles(SYMBOL, Interval.M1, CANDLES_MAX)[0].open_time


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=RECORDING, help="candle file, named like BTCUSDT-1m-…")
    parser.add_argument("--speed", type=float, default=300, help="market seconds per second (default 300)")
    parser.add_argument("--hours", type=float, default=26, help="of market time (default 26)")
    parser.add_argument("--faults", type=int, default=220, help="how many (default 220)")
    parser.add_argument("--seed", type=int, default=3, help="of the order of the faults")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tradingbot-replay-") as name:
        folder = Path(name)
        began = time.monotonic()
        try:
            replay = Replay(folder, options)
        except CouldNotMeasure as error:
            print(f"could not measure: {error}", file=sys.stderr)
            return 1
        try:
            replay.run()
            report(replay)
        except CouldNotMeasure as error:
            print(f"could not measure: {error}", file=sys.stderr)
            print((folder / "worker.log").read_text(errors="replace")[-4000:], file=sys.stderr)
            return 1
        finally:
            replay.close()
        print(f"took: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
        from django.core.management import call_command

        try:
            call_command("verify_candles", file=options.file, symbol=None)
        except SystemExit as refused:
            return int(refused.code or 0)
        if not has_a_day():
            print("no candle of a whole day was stored: let it run for 26 hours", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
