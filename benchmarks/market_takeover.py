"""How long prices stay away when the stream worker is killed: takeover by the second worker, and its backfill.

python -m tradingbot.launcher with-servers -- python -m benchmarks.market_takeover
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import CouldNotMeasure, figure, print_table
from benchmarks.market_parts import Exchange, Worker, set_up_django, wait_for


def measure(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds from SIGKILL to caught up again, and of these the ones for connecting and backfill, per round."""
    exchange = Exchange(folder, "--seed", "7", "--speed", "60")
    exchange.start()
    workers: list[Worker] = []
    taken: list[float] = []
    backfills: list[float] = []
    try:
        set_up_django(folder, exchange.url, "BTCUSDT,ETHUSDT,SOLUSDT")
        exchange.open_account(folder)
        workers = [Worker(f"takeover{n}", folder / "worker.log") for n in range(2)]
        for number in range(rounds):
            wait_for(_caught_up, "the streams are up", 60)
            wait_for(lambda: _workers_that_ask() >= 2, "the other worker stands by", 60)
            holder = next(w for w in workers if f":{w.pid}:" in _holder())
            before = _fence()
            workers.remove(holder)
            killed_at = time.monotonic()
            holder.kill()
            wait_for(lambda seen=before: _fence() > seen, "another worker takes over", 60)
            leased_at = time.monotonic()
            wait_for(lambda seen=before: _state_fence() > seen and _caught_up(), "it has caught up", 60)
            taken.append(time.monotonic() - killed_at)
            backfills.append(time.monotonic() - leased_at)
            print(f"{taken[-1]:.1f} s, of it backfill {backfills[-1]:.1f} s", file=sys.stderr, flush=True)
            workers.append(Worker(f"takeover{number + 2}", folder / "worker.log"))
    finally:
        for worker in workers:
            worker.kill()
        exchange.kill()
    return taken, backfills


def _holder() -> str:
    from tradingbot.core.models import Lease

    return Lease.objects.get(name="streams:simulator:market").holder


def _fence() -> int:
    from tradingbot.core.models import Lease

    return Lease.objects.get(name="streams:simulator:market").fence


def _workers_that_ask() -> int:
    """How many workers take or ask for leases: each has one connection that does nothing else."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE %s",
            ["%INSERT INTO core_lease%"],
        )
        return int(cursor.fetchone()[0])


def _state_fence() -> int:
    from market.models import FeedState

    return FeedState.objects.get(stream="market").fence


def _caught_up() -> bool:
    from market.models import FeedState

    return FeedState.objects.filter(stream="market", connected=True, resynced_at__isnull=False).exists()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="how many workers are killed (default 20)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tradingbot-takeover-") as name:
        try:
            taken, backfills = measure(Path(name), options.rounds)
            print_table(
                [
                    figure("takeover of 3 symbols, kill to caught up", taken, "s", least=1),
                    figure("of it: lease to caught up (connect, backfill)", backfills, "s", least=1),
                ]
            )
        except CouldNotMeasure as error:
            print(f"could not measure: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
