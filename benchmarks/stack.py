"""A private copy of the whole product on ports of its own, and a process inside it that can use its services."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from benchmarks.figures import CouldNotMeasure
from benchmarks.machine import ROOT
from tradingbot.launcher import places
from tradingbot.launcher.postgres_server import PostgresServer
from tradingbot.launcher.redis_server import RedisServer

READY_SECONDS_MAX = 120
STOP_SECONDS_MAX = 25
RUN = (sys.executable, "-m", "tradingbot.launcher", "run")
# Of the caller's own environment these would reach into somebody else's servers or keys.
NOT_INHERITED = ("DATABASE_URL", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_API_KEY_FILE")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's account can pass through; removed at the end."""
    folder = places.throwaway_folder(places.server_account())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Stack:
    """The product, from `with` to its end. `lines` are the launcher's words with the seconds since the start."""

    def __init__(
        self,
        data: Path,
        port: int,
        *,
        command: Sequence[str] = RUN,
        checkout: Path = ROOT,
        ready_seconds_max: float = READY_SECONDS_MAX,
        **settings: str,
    ) -> None:
        self.data, self.port = data, port
        self._command, self._checkout, self._ready_seconds_max = command, checkout, ready_seconds_max
        self._settings = {
            "TRADING_ENABLED": "true",
            "SEED": "7",
            **settings,
            "TRADING_ENVIRONMENT": "simulator",
            "DATA_DIR": str(data),
            "PORT": str(port),
            "SIMULATOR_PORT": str(port + 1),
            "MODEL_PORT": str(port + 2),
        }
        self.url = f"http://127.0.0.1:{port}"
        self.simulator_url = f"http://127.0.0.1:{port + 1}"
        self.model_url = f"http://127.0.0.1:{port + 2}/v1"
        self.lines: list[tuple[float, str]] = []
        self.ready_seconds = 0.0
        self.password = ""
        self._popen: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "Stack":
        began = time.monotonic()
        self._popen = subprocess.Popen(
            list(self._command),
            cwd=self._checkout,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._popen, began), daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready(began)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _read(self, popen: "subprocess.Popen[str]", began: float) -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            self.lines.append((time.monotonic() - began, line.strip()))

    def _wait_until_ready(self, began: float) -> None:
        assert self._popen is not None
        while time.monotonic() < began + self._ready_seconds_max:
            for seconds, line in list(self.lines):
                if line.startswith(f"ready {self.url} "):
                    self.ready_seconds, self.password = seconds, line.split()[-1]
                    print(f"the stack was ready after {seconds:.1f} s", flush=True)
                    return
            if self._popen.poll() is not None:
                raise CouldNotMeasure(f"the stack did not start: {self._last_words()}")
            time.sleep(0.02)
        raise CouldNotMeasure(f"no `ready` within {self._ready_seconds_max:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        return " / ".join(line for _, line in self.lines[-3:]) or "it said nothing"

    def _stop(self) -> None:
        """SIGTERM to the launcher, which stops the rest; under make it is a grandchild, known by its lock."""
        popen = self._popen
        if popen is None:
            return
        if popen.poll() is None:
            os.kill(self._pid_to_stop(popen.pid), signal.SIGTERM)
        try:
            popen.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            popen.kill()  # its children are told by the kernel that it died
            popen.wait()
        if self._reader is not None:
            self._reader.join(5)

    def _pid_to_stop(self, started: int) -> int:
        with contextlib.suppress(OSError, ValueError):
            if _descends_from(self.launcher_pid, started):
                return self.launcher_pid
        return started

    @property
    def launcher_pid(self) -> int:
        """The process from which all others descend."""
        return int((self.data / "lock").read_text(encoding="ascii"))

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        return kept | self._settings

    def inside_environment(self) -> dict[str, str]:
        """The environment of a process that uses the stack's own servers."""
        return self._environment() | {
            "DATABASE_URL": PostgresServer(self.data, self.data / "logs" / "postgres.log").url,
            "REDIS_URL": RedisServer(self.data, self.data / "logs" / "redis.log").url,
            "SECRET_KEY_FILE": str(self.data / "secret_key"),
            "SIMULATOR_URL": self.simulator_url,
            "OPENAI_BASE_URL": self.model_url,
            "SYMBOLS": ",".join(self.symbols()),
            "DJANGO_SETTINGS_MODULE": "tradingbot.settings",
        }

    def symbols(self) -> list[str]:
        """What the simulator trades."""
        return sorted(self.ask_simulator("/sim/market")["symbols"])

    def ask_simulator(self, path: str) -> Any:
        """GET a control path of the simulator."""
        with _session() as session:
            answer = session.get(self.simulator_url + path, timeout=30)
            answer.raise_for_status()
            return answer.json()


def _session() -> requests.Session:
    """Loopback only: whatever proxy is set, it is not asked."""
    session = requests.Session()
    session.trust_env = False
    return session


def _descends_from(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        pid = int(stat.rpartition(")")[2].split()[1])
    return pid == ancestor


class Inside:
    """A child process with Django set up for the stack: `call` runs a function of benchmarks.inside there."""

    def __init__(self, stack: Stack) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.inside"],
            cwd=ROOT,
            env=stack.inside_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Inside":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            self._popen.stdin.close()  # the child reads to the end of its input and leaves
        try:
            self._popen.wait(5)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def begin(self, name: str, **arguments: Any) -> None:
        """Start a function; `result` waits for what it returns."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps({"name": name, "arguments": arguments}).encode() + b"\n")
        self._popen.stdin.flush()

    def result(self, seconds_max: float) -> Any:
        """What the function begun last returned; CouldNotMeasure when it failed or took longer."""
        assert self._popen.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._popen.stdout, selectors.EVENT_READ)
            if not selector.select(seconds_max):
                raise CouldNotMeasure(f"the process inside the stack said nothing for {seconds_max:.0f} s")
        line = self._popen.stdout.readline()
        if not line:
            raise CouldNotMeasure("the process inside the stack ended")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise CouldNotMeasure(str(answer["error"]))
        return answer["result"]

    def call(self, name: str, *, seconds_max: float = 60, **arguments: Any) -> Any:
        """Run a function and wait for its result."""
        self.begin(name, **arguments)
        return self.result(seconds_max)
