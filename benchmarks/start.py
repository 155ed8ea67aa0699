"""`make run` to `ready`: cold from a fresh clone, and warm in the same clone."""

import subprocess
from pathlib import Path

from benchmarks.figures import CouldNotMeasure, Figure, figure
from benchmarks.machine import ROOT
from benchmarks.stack import Stack, temporary_folder

PORT = 9940
COLD_SECONDS_MAX = 600
WARM_RUNS = 3
NO_CACHE = {"UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}


def measure(*, no_cache: bool) -> list[Figure]:
    """One cold start, which makes .venv, then warm ones. With `no_cache` the packages come over the network."""
    with temporary_folder() as folder:
        clone = folder / "clone"
        made = subprocess.run(
            ["git", "clone", "-q", str(ROOT), str(clone)], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise CouldNotMeasure(f"git clone failed: {made.stderr.strip()}")
        cold = _start(clone, NO_CACHE if no_cache else {})
        warm = [_start(clone, {}) for _ in range(WARM_RUNS)]
    how = "nothing cached" if no_cache else "package cache as found"
    return [
        figure(f"cold `make run` to ready ({how})", [cold], "s", least=1),
        figure("warm `make run` to ready", warm, "s", least=WARM_RUNS),
    ]


def _start(clone: Path, settings: dict[str, str]) -> float:
    stack = Stack(
        clone / ".data",
        PORT,
        command=("make", "run"),
        checkout=clone,
        ready_seconds_max=COLD_SECONDS_MAX,
        **settings,
    )
    with stack:
        pass
    print(
        "start:", "; ".join(f"{seconds:.1f} s {line[:40]}" for seconds, line in stack.lines if _is_step(line))
    )
    return stack.ready_seconds


def _is_step(line: str) -> bool:
    return line.startswith(("make env", "starting", "running", "ready"))
