"""What the figures were measured on."""

import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def header() -> list[str]:
    """Machine, Python, commit and date; one line each."""
    return [
        f"date      {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"commit    {_commit()}",
        f"machine   {_cpu()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        f"system    {platform.system()} {platform.release()}",
        f"python    {platform.python_version()}",
    ]


def load() -> str:
    """The load averages of 1, 5 and 15 minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


def _commit() -> str:
    changed = len(_git("status", "--porcelain").splitlines())
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + (
        f", {changed} files differ from it" if changed else ""
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
