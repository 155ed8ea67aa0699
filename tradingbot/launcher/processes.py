"""Child processes: started so that they cannot outlive the launcher, known by pid and start time.

Each child has a session of its own, so a Ctrl-C in the terminal reaches the launcher alone and the launcher
decides the order. On Linux the kernel sends a child its stop signal when the launcher dies of anything,
SIGKILL included (PR_SET_PDEATHSIG); `ProcessRecord` in `places` covers what ignores it, and other systems.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradingbot.launcher.errors import LauncherError

LOG_BYTES_MAX = 5_000_000
POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
# Resolved before any fork: a forked child must not load libraries.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


@dataclass(frozen=True)
class Account:
    """The unprivileged system user that PostgreSQL runs as when the launcher is root."""

    name: str
    uid: int
    gid: int


@dataclass
class Child:
    """One running (or ended) child of the launcher."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    log_start: int = 0  # where this child's own words begin in the log, in bytes

    @property
    def pid(self) -> int:
        return self.popen.pid

    def is_running(self) -> bool:
        return self.popen.poll() is None

    def how_it_ended(self) -> str:
        """`exit code 1` or `killed by SIGKILL`, for the console."""
        code = self.popen.poll()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def signal_group(self, number: int) -> None:
        """Signal the child and everything it started; nothing happens once they are gone."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS answers the latter for a group of zombies
            return


def _die_with_parent(death_signal: int, parent_pid: int) -> Callable[[], None]:
    def in_child() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent_pid:  # the launcher died between fork and prctl
            os._exit(1)

    return in_child


def spawn(
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    account: Account | None = None,
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
    pass_fds: tuple[int, ...] = (),
    cwd: Path | None = None,
) -> Child:
    """Start `command` in its own session with its output appended to `log`.

    `stop_signals` are tried in turn before SIGKILL; the first is also what the kernel sends when the launcher
    dies. Raises LauncherError when the program cannot be started.
    """
    with log.open("ab") as output:
        log_start = output.tell()
        try:
            popen = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=pass_fds,
                preexec_fn=_die_with_parent(stop_signals[0], os.getpid()),  # the launcher has one thread
                **as_account(account),
            )
        except OSError as error:
            raise LauncherError(f"{name} cannot be started: {command[0]}: {error.strerror}.") from error
    return Child(name, popen, log, stop_signals, log_start)


def as_account(account: Account | None) -> dict[str, Any]:
    """The subprocess arguments that make a child run as `account` (none: as ourselves)."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def stop(children: Sequence[Child], allowance_seconds: float) -> list[str]:
    """Stop `children` together within `allowance_seconds`; answers the names that had to be killed.

    The allowance is shared out evenly over the longest list of stop signals; SIGKILL ends the rest.
    """
    children = [child for child in children if child.is_running()]  # a pid once reaped may be somebody else's
    rounds = max((len(child.stop_signals) for child in children), default=1)
    for turn in range(rounds):
        for child in children:
            if child.is_running() and turn < len(child.stop_signals):
                child.popen.send_signal(child.stop_signals[turn])
        wait_until_gone(children, allowance_seconds / rounds)
    killed = [child.name for child in children if child.is_running()]
    for child in children:
        child.signal_group(signal.SIGKILL)  # also what a child may have left behind in its session
        child.popen.wait()
    return killed


def wait_until_gone(children: Sequence[Child], seconds: float) -> None:
    """Return as soon as none of `children` runs, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def start_time(pid: int) -> str | None:
    """What tells process `pid` from a later one with the same number; None when there is no such process.

    Linux: the boot, and field 22 of /proc/PID/stat in clock ticks since then. Elsewhere: `ps -o lstart=`.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name in brackets may hold anything
        return None if fields[0] in "ZX" else f"{_boot_id()} {fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() or None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def rotate(log: Path) -> None:
    """Keep one old log beside a fresh one once it passes LOG_BYTES_MAX."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_name(log.name + ".1"))


def last_words(log: Path, start: int = 0) -> str:
    """The last line that a child wrote from byte `start` on, with its continuation lines, on one line."""
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines() if log.exists() else []
    words: list[str] = []
    for line in reversed([line for line in lines if line.strip()]):
        words.insert(0, line.strip())
        if not line[0].isspace():
            break
    return " ".join(words) or "it said nothing"
