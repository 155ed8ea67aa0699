"""Real processes of the stream tests: the simulator at speed, and Celery workers that stream."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

import requests
from django.conf import settings
from django.db import connection

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 30
MARKET_SPEED = 60  # a market minute a second


class ExchangeProcess:
    """`python -m simulator serve`, to be killed and started again on the same data."""

    def __init__(self, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._data = data
        self._process: subprocess.Popen[bytes] | None = None
        self.http = requests.Session()
        self.http.trust_env = False

    def start(self) -> None:
        options = ["--port", str(self._port), "--seed", "7", "--speed", str(MARKET_SPEED)]
        command = [sys.executable, "-m", "simulator", "serve", *options, "--data", str(self._data)]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                self.http.get(f"{self.url}/api/v3/ping", timeout=1).raise_for_status()
            except requests.exceptions.RequestException:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def open_account(self) -> tuple[str, str]:
        """(key, secret) of a fresh account with USDT."""
        answer = self.http.post(
            f"{self.url}/sim/accounts", json={"balances": {"USDT": "100000"}}, timeout=10
        ).json()
        return answer["apiKey"], answer["secretKey"]


class StreamsWorker:
    """A Celery worker of the queue `streams` on the test database."""

    def __init__(self, name: str, *, simulator_url: str, log: Path) -> None:
        """It streams settings.SYMBOLS in shards of settings.SYMBOLS_PER_SHARD."""
        parts = connection.settings_dict
        where = {"host": parts["HOST"], "port": parts["PORT"], "user": parts["USER"]}
        query = urlencode({k: v for k, v in where.items() if v})
        environment = os.environ | {
            "DATABASE_URL": f"postgresql:///{parts['NAME']}?{query}",
            "SIMULATOR_URL": simulator_url,
            "SYMBOLS": ",".join(settings.SYMBOLS),
            "SYMBOLS_PER_SHARD": str(settings.SYMBOLS_PER_SHARD),
            "TRADINGBOT_STREAMS": "1",
        }
        if parts["PASSWORD"]:
            environment["PGPASSWORD"] = str(parts["PASSWORD"])
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        queue = ["-P", "threads", "-Q", "streams", "-c", "1", "-n", f"{name}@%h"]
        command = [sys.executable, "-m", "celery", "-A", "tradingbot", "worker", "-l", "INFO", *queue, *quiet]
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no time to say anything."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: alive, and deaf and dumb."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM and the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20)
