"""A launcher under test: a real process, its folder and ports, ended by pid whatever happens."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tradingbot.launcher import processes

ROOT = Path(__file__).resolve().parents[2]
OURS = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "SECRET_KEY_FILE", "OPENAI_BASE_URL", "OPENAI_API_KEY")


def eventually(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until `condition` holds; fail with `what` when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return processes.start_time(pid) is None


def free_port() -> int:
    """A port that nothing listens on, from the system: fixed ones met other runs on the same machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Launcher:
    """`python -m tests.launcher.standin run` with a data folder and ports of its own."""

    def __init__(self, folder: Path, *, stdin: int = subprocess.DEVNULL, **settings: str) -> None:
        self.data = folder / "data"
        self.output: list[str] = []
        clean = {name: value for name, value in os.environ.items() if name not in OURS}
        ports = {name: str(free_port()) for name in ("PORT", "SIMULATOR_PORT", "MODEL_PORT")}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.launcher.standin", "run"],
            cwd=ROOT,
            env=clean | ports | {"DATA_DIR": str(self.data)} | settings,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Under nohup SIGHUP comes ignored, and a launcher that finds it so rightly outlives its terminal.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.output.append(line.rstrip())

    def says(self, text: str) -> str:
        """Wait for a line that contains `text`, and answer it."""
        eventually(
            lambda: self._find(text) is not None or self.popen.poll() is not None,
            f"{text!r} in {self.output}",
        )
        line = self._find(text)
        assert line is not None, self.output
        return line

    def _find(self, text: str) -> str | None:
        return next((line for line in self.output if text in line), None)

    def children(self) -> dict[str, int]:
        """Name -> pid of the children of now, as noted for the launcher that comes after."""
        return {row["name"]: row["pid"] for row in json.loads((self.data / "processes.json").read_text())}

    def ends(self) -> int:
        """Wait for the launcher to end by itself; its exit code."""
        code = self.popen.wait(timeout=30)
        self._reader.join(timeout=5)
        return code

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        return self.ends()


@contextmanager
def server_folder() -> Iterator[Path]:
    """A short-named temporary folder (sockets!) that PostgreSQL's own account may pass through; gone afterwards.

    pytest's own folders are closed to other accounts, and it would keep those of three whole runs, 40 MB each.
    """
    folder = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def end(launcher: Launcher) -> None:
    """Stop a launcher that still runs, whatever it takes."""
    if launcher.popen.poll() is not None:
        return
    launcher.popen.send_signal(signal.SIGTERM)
    try:
        launcher.popen.wait(timeout=20)
    except subprocess.TimeoutExpired:
        launcher.popen.kill()


@pytest.fixture
def base() -> Iterator[Path]:
    """A temporary folder for a server's data."""
    with server_folder() as folder:
        yield folder


@pytest.fixture
def launch(base: Path) -> Iterator[Callable[..., Launcher]]:
    """Start launchers over one folder; all of them are stopped at the end."""
    started: list[Launcher] = []

    def start(*, stdin: int = subprocess.DEVNULL, **settings: str) -> Launcher:
        started.append(Launcher(base, stdin=stdin, **settings))
        return started[-1]

    yield start
    for launcher in started:
        end(launcher)


@pytest.fixture(scope="module")
def running() -> Iterator[Launcher]:
    """A launcher that has said `ready`, for tests that only look at it."""
    with server_folder() as folder:
        launcher = Launcher(folder)
        launcher.says("ready")
        yield launcher
        end(launcher)
