"""Memory of every process of the embedded stack after some minutes of work."""

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.approval_speed import Desk
from benchmarks.figures import CouldNotMeasure
from benchmarks.stack import Inside, Stack, temporary_folder

PORT = 9930
SPEED = "60"  # a market minute a second: ten minutes hold what ten hours of market bring
GOAL_MB = 900
PAGE_GAP_SECONDS = 10
PAGES = ("/", "/approvals/", "/orders/", "/positions/", "/alerts/", "/reconciliation/")


@dataclass(slots=True)
class Size:
    """MB (10^6 bytes). PSS counts a page shared by n processes as 1/n in each, so that sums are true."""

    processes: int = 0
    pss_mb: float = 0.0
    rss_mb: float = 0.0


def measure(*, minutes: float, replay: Path | None) -> None:
    """Run armed for `minutes` with pages being opened, then print the table; a line a minute on the way."""
    settings = {"SPEED": SPEED} | ({"REPLAY": str(replay)} if replay else {})
    with temporary_folder() as folder, Stack(folder / "data", PORT, **settings) as stack:
        with Inside(stack) as inside:
            inside.call("arm", threshold_quote=None)
        desk = Desk(stack)
        began = time.monotonic()
        minute = 0
        while (passed := time.monotonic() - began) < minutes * 60:
            for path in PAGES:
                desk.open(path)
            if passed >= minute * 60:
                total = _total(_sizes(stack))
                print(f"after {minute} min: PSS {total.pss_mb:.0f} MB, RSS {total.rss_mb:.0f} MB", flush=True)
                minute += 1
            time.sleep(min(PAGE_GAP_SECONDS, max(0.0, minutes * 60 - (time.monotonic() - began))))
        sizes = _sizes(stack)
    _print(sizes, minutes, replay)


def _sizes(stack: Stack) -> dict[str, Size]:
    """Size by process name; the children of a process count under its name."""
    records = json.loads((stack.data / "processes.json").read_text(encoding="utf-8"))
    names = {int(record["pid"]): str(record["name"]) for record in records}
    names[stack.launcher_pid] = "launcher"
    parents = _parents()
    sizes: dict[str, Size] = defaultdict(Size)
    for pid in parents:
        owner: int | None = pid
        while owner is not None and owner not in names:
            owner = parents.get(owner)
        if owner is None:
            continue
        measured = _rollup(pid)
        if measured is not None:
            size = sizes[names[owner]]
            size.processes += 1
            size.pss_mb += measured["Pss"]
            size.rss_mb += measured["Rss"]
    if missing := set(names.values()) - set(sizes):
        raise CouldNotMeasure(f"no memory of {', '.join(sorted(missing))} can be read")
    return dict(sizes)


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            found[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def _rollup(pid: int) -> dict[str, float] | None:
    """Pss and Rss of a process in MB; None when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    kib = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)}
    return {name: int(kib[name]) * 1024 / 1e6 for name in ("Pss", "Rss")}


def _total(sizes: dict[str, Size]) -> Size:
    total = Size()
    for size in sizes.values():
        total.processes += size.processes
        total.pss_mb += size.pss_mb
        total.rss_mb += size.rss_mb
    return total


def _print(sizes: dict[str, Size], minutes: float, replay: Path | None) -> None:
    total = _total(sizes)
    market = f"replay of {replay.name}" if replay else "the generated market"
    print(f"\nmemory after {minutes:g} minutes of {market} at SPEED={SPEED}, trading armed")
    print("| process    | processes | PSS MB | RSS MB |")
    print("|------------|-----------|--------|--------|")
    ordered = sorted(sizes.items(), key=lambda item: -item[1].pss_mb)
    for name, size in [*ordered, ("sum", total)]:
        print(f"| {name:<10} | {size.processes:>9} | {size.pss_mb:>6.1f} | {size.rss_mb:>6.1f} |")
    verdict = "inside" if total.pss_mb <= GOAL_MB else "outside"
    print(f"goal {GOAL_MB} MB for the whole embedded stack: {total.pss_mb:.0f} MB (PSS), {verdict} it")
