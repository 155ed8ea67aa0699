"""Starts children, waits for them, starts the fallen again, and stops all of them in order."""

import contextlib
import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tradingbot.launcher import processes
from tradingbot.launcher.errors import LauncherError, StopRequested
from tradingbot.launcher.processes import Child
from tradingbot.launcher.simulator_client import ask

RESTARTS_PER_MINUTE_MAX = 5
BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
LEFTOVER_SECONDS_MAX = 3
POLL_SECONDS = 0.1
READY_POLL_SECONDS = 0.3  # each question that is answered "not yet" is a line in the web log


def say(line: str) -> None:
    """One line on the console, at once, even into a pipe; a console that has gone away stops nothing."""
    with contextlib.suppress(OSError):
        print(line, flush=True)


class StopSignal:
    """SIGINT, SIGTERM and SIGHUP, turned into something that every wait of the launcher notices.

    A closed terminal counts as SIGHUP even where that signal reaches only `make`, which does not pass it on.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._reader, select.POLLIN)
        os.set_blocking(self._writer, False)
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup we stay
            signal.signal(signal.SIGHUP, self._on_signal)
            if os.isatty(0):
                self._poll.register(0, 0)  # no reading, but a hang-up is always told

    def _on_signal(self, *_: object) -> None:
        self.came = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep; True at once when a signal has come."""
        if not self.came and self._poll.poll(seconds * 1000):
            self.came = True
        return self.came

    def pause(self, seconds: float) -> None:
        """Sleep while starting; raises StopRequested when a signal has come."""
        if self.wait(seconds):
            raise StopRequested


@dataclass
class Member:
    """A child and how to start it again."""

    start: Callable[[], Child]
    child: Child
    restarts: deque[float] = field(default_factory=deque)
    due: float | None = None  # when the next start is due, on the monotonic clock


class Supervisor:
    """Holds the children of one run. `record` is where their pids are noted for a launcher that comes after."""

    def __init__(self, record: Path, stop_signal: StopSignal) -> None:
        self._record = record
        self._signal = stop_signal
        self._members: dict[str, Member] = {}

    def add(self, start: Callable[[], Child]) -> Child:
        """Start a child and look after it from now on."""
        child = start()
        self._members[child.name] = Member(start, child)
        self._note()
        return child

    def run_to_end(self, start: Callable[[], Child]) -> None:
        """Run a child that is expected to end with exit code 0."""
        child = self.add(start)
        while child.is_running():
            self.refuse_fallen(except_for=child.name)
            self._signal.pause(POLL_SECONDS)
        del self._members[child.name]
        self._note()
        if child.popen.returncode != 0:
            raise LauncherError(_story(child, "failed"))

    def wait_for(self, name: str, url: str, seconds: float, is_ready: Callable[[int], bool]) -> None:
        """Wait until `url` answers with a status that satisfies `is_ready`; raises with what it said last."""
        deadline = time.monotonic() + seconds
        last = f"{url} does not answer"
        while time.monotonic() < deadline:
            self.refuse_fallen()
            answer = ask(url)
            if answer is not None and is_ready(answer.status):
                return
            if answer is not None:
                last = f"{url} answers {answer.status}: {' '.join(answer.body.split())[:600]}"
            self._signal.pause(READY_POLL_SECONDS)
        raise LauncherError(
            f"{name} is not ready after {seconds:.0f} s: {last}. Logs: {self._record.parent / 'logs'}"
        )

    def refuse_fallen(self, except_for: str = "") -> None:
        """While starting, a child that ends is a failure, not something to try again."""
        for name, member in self._members.items():
            if name != except_for and not member.child.is_running():
                raise LauncherError(_story(member.child, "ended while starting"))

    def watch(self) -> None:
        """Start the fallen again, with a growing delay, until a stop signal comes.

        Raises LauncherError when one child falls more than RESTARTS_PER_MINUTE_MAX times in a minute.
        """
        while not self._signal.wait(POLL_SECONDS):
            for member in self._members.values():
                if not member.child.is_running():
                    self._start_again(member)

    def _start_again(self, member: Member) -> None:
        now, child = time.monotonic(), member.child
        if member.due is None:
            while member.restarts and member.restarts[0] < now - 60:
                member.restarts.popleft()
            if len(member.restarts) >= RESTARTS_PER_MINUTE_MAX:
                raise LauncherError(
                    _story(child, f"fell more than {RESTARTS_PER_MINUTE_MAX} times in a minute")
                )
            delay = BACKOFF_SECONDS[len(member.restarts)]
            member.restarts.append(now)
            member.due = now + delay
            say(
                f"{child.name} ended ({child.how_it_ended()}); starting it again in {delay:g} s (log: {child.log})"
            )
        if now >= member.due:
            member.due = None
            member.child = member.start()
            self._note()

    def stop(self, order: Sequence[tuple[tuple[str, ...], float]]) -> None:
        """Stop every child, group after group; a child that `order` does not name goes first."""
        if not self._members:
            return
        say("stopping")
        named = {name for names, _ in order for name in names}
        unnamed = tuple(name for name in self._members if name not in named)
        for names, seconds in ((unnamed, 1.0), *order):
            group = [self._members[name].child for name in names if name in self._members]
            for name in processes.stop(group, seconds):
                say(f"{name} did not stop in {seconds:.0f} s and was killed")
        self._members.clear()
        self._record.unlink(missing_ok=True)
        say("stopped")

    def _note(self) -> None:
        rows = [_row(member.child) for member in self._members.values()]
        fresh = self._record.with_name(self._record.name + ".new")
        fresh.write_text(json.dumps(rows), encoding="utf-8")
        fresh.replace(self._record)


def _row(child: Child) -> dict[str, object]:
    started = processes.start_time(child.pid)
    return {"name": child.name, "pid": child.pid, "started": started, "signals": list(child.stop_signals)}


def _story(child: Child, what: str) -> str:
    words = processes.last_words(child.log, child.log_start)
    return f"{child.name} {what} ({child.how_it_ended()}): {words} (log: {child.log})"


def end_leftovers(record: Path, pause: Callable[[float], None]) -> int:
    """End the children that a killed launcher noted in `record`; answers how many were still there.

    A process counts only if both its pid and its start time are those on record.
    """
    try:
        rows: list[Mapping[str, object]] = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0
    left = [row for row in rows if _is_there(row)]
    for row in left:
        _send(row, _signals(row)[0])
    deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
    while any(_is_there(row) for row in left):
        if time.monotonic() > deadline:
            for row in left:
                _send(row, signal.SIGKILL)
        pause(POLL_SECONDS)
    record.unlink(missing_ok=True)
    return len(left)


def _is_there(row: Mapping[str, object]) -> bool:
    return row["started"] is not None and processes.start_time(int(str(row["pid"]))) == row["started"]


def _signals(row: Mapping[str, object]) -> list[int]:
    signals = row["signals"]
    return [int(number) for number in signals] if isinstance(signals, list) else [signal.SIGTERM]


def _send(row: Mapping[str, object], number: int) -> None:
    if _is_there(row):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(str(row["pid"])), number)
