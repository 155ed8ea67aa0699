"""Command line of the benchmarks."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    approval_speed,
    execution_books,
    execution_orders,
    gate_speed,
    machine,
    memory,
    page_speed,
    proposal_speed,
    queue_load,
    simulator_speed,
    start,
)
from benchmarks.figures import CouldNotMeasure, Figure, print_table
from tradingbot.launcher.errors import LauncherError

RECORDING = machine.ROOT.parent / "shared" / "data" / "BTCUSDT-1m-2023-03-01_21.csv.gz"
NAMES = ("proposal", "approval", "gate", "page", "queue", "orders", "books", "simulator", "start")


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything asked for was measured, else 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {*NAMES, "memory"}:
        parser.error(
            f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}, memory"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every stack is stopped
    benchmarks: dict[str, Callable[[], list[Figure]]] = {
        "proposal": proposal_speed.measure,
        "approval": approval_speed.measure,
        "gate": gate_speed.measure,
        "page": page_speed.measure,
        "queue": queue_load.measure,
        "orders": execution_orders.measure,
        "books": execution_books.measure,
        "simulator": lambda: simulator_speed.measure(options.replay),
        "start": lambda: start.measure(no_cache=options.no_cache),
        "memory": lambda: memory.measure(minutes=options.minutes, replay=options.replay) or [],
    }
    print("\n".join(machine.header()))
    print(f"load      {machine.load()} before")
    figures: list[Figure] = []
    failed = 0
    for name in options.names or NAMES:
        print(f"\n== {name}, load {machine.load()}", flush=True)
        began = time.monotonic()
        try:
            figures += benchmarks[name]()
        except (CouldNotMeasure, LauncherError, OSError) as error:
            print(f"could not measure {name}: {error}", file=sys.stderr)
            failed += 1
        print(f"   took {time.monotonic() - began:.0f} s, load {machine.load()} after", flush=True)
    if figures:
        print()
        print_table(figures)
    print(f"\nload      {machine.load()} after")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"{', '.join(NAMES)} (all of them by default), or memory",
    )
    parser.add_argument("--minutes", type=float, default=10, help="of the memory benchmark (default 10)")
    parser.add_argument(
        "--replay",
        type=Path,
        default=RECORDING if RECORDING.is_file() else None,
        help="candle file for the memory and simulator benchmarks (default: the recording, if it is there)",
    )
    parser.add_argument("--no-cache", action="store_true", help="cold start without any package cache")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
