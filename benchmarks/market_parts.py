"""Real processes for the market benchmarks: simulator at speed, stream workers, and what Postgres says of them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from benchmarks.figures import CouldNotMeasure

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS_MAX = 40


def set_up_django(folder: Path, simulator_url: str, symbols: str) -> None:
    """Settings of this process and its children, on the servers that `with-servers` lends; empty tables."""
    if not os.environ.get("DATABASE_URL"):
        raise CouldNotMeasure(
            "DATABASE_URL is not set: python -m tradingbot.launcher with-servers -- python -m benchmarks.…"
        )
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tradingbot.settings",
        "SECRET_KEY": "not-a-secret-for-benchmarks-only",
        "TRADING_ENVIRONMENT": "simulator",
        "SIMULATOR_URL": simulator_url,
        "SYMBOLS": symbols,
        "LOG_LEVEL": "ERROR",
        "BINANCE_SIMULATOR_API_KEY_FILE": str(folder / "key"),
        "BINANCE_SIMULATOR_API_SECRET_FILE": str(folder / "secret"),
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Exchange:
    """`python -m simulator serve`, to be killed and started again on the same state."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "simulator", "serve", "--port", str(self.port), *options]
        self._command += ["--data", str(folder / "exchange")]
        self._process: subprocess.Popen[bytes] | None = None
        self.http = requests.Session()
        self.http.trust_env = False

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "the simulator answers")

    def _answers(self) -> bool:
        try:
            return self.http.get(f"{self.url}/api/v3/ping", timeout=2).ok
        except requests.RequestException:
            return False

    def open_account(self, folder: Path) -> None:
        """A fresh account whose key the workers use."""
        answer = self.control("accounts", {"balances": {"USDT": "100000"}})
        (folder / "key").write_text(answer["apiKey"])
        (folder / "secret").write_text(answer["secretKey"])

    def control(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """A control path: POST with a body, else GET."""
        address = f"{self.url}/sim/{path}"
        answer = (
            self.http.post(address, json=body, timeout=20) if body else self.http.get(address, timeout=20)
        )
        answer.raise_for_status()
        return answer.json()

    def cpu_seconds(self) -> float:
        """What the server has used of the CPU so far; it works in one thread."""
        assert self._process is not None
        on_cpu_ns = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()[0]
        return int(on_cpu_ns) / 1e9

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


class Worker:
    """A Celery worker of the queue `streams`."""

    def __init__(self, name: str, log: Path) -> None:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        queue = ["-P", "threads", "-Q", "streams", "-c", "1", "-n", f"{name}@%h"]
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tradingbot",
            "worker",
            "-l",
            "WARNING",
            *queue,
            *quiet,
        ]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"TRADINGBOT_STREAMS": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no time to say anything."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not enough."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS_MAX) -> Any:
    """The first true result of `condition`; CouldNotMeasure after the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise CouldNotMeasure(f"in {seconds:.0f} s it did not come to pass: {what}")
        time.sleep(0.02)
    return found
