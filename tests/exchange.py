"""The exchange of the tests: the real simulator as a process of its own, driven over HTTP."""

import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from tests.environment import KEYS

START_SECONDS_MAX = 30


class SimulatedExchange:
    """A running simulator and the account that the bot under test trades on."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._process: subprocess.Popen[bytes] | None = None
        self._data = tempfile.mkdtemp(prefix="tradingbot-test-exchange-")
        self.api_key, self.uid = "", 0

    def start(self) -> None:
        """Start the server and wait until it answers."""
        port = self.url.rsplit(":", 1)[1]
        command = [
            sys.executable,
            "-m",
            "simulator",
            "serve",
            "--port",
            port,
            "--seed",
            "7",
            "--data",
            self._data,
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                self._session.get(f"{self.url}/api/v3/ping", timeout=1).raise_for_status()
            except requests.exceptions.RequestException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server; requests are refused from here on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to a control path."""
        answer = self._session.post(f"{self.url}{path}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def get(self, path: str, **params: Any) -> Any:
        """GET a control path or a public one."""
        answer = self._session.get(f"{self.url}{path}", params=params, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def open_account(self, **balances: str) -> None:
        """A fresh account; its key is put where the bot reads it."""
        account = self.post("/sim/accounts", {"balances": balances})
        self.api_key, self.uid = account["apiKey"], account["uid"]
        Path(KEYS / "key").write_text(account["apiKey"])
        Path(KEYS / "secret").write_text(account["secretKey"])

    def arm(self, **fault: Any) -> None:
        """Arm a fault."""
        self.post("/sim/faults", fault)

    def disarm(self) -> None:
        """Forget all armed faults, and what was counted against the rate limits."""
        for what in ("faults", "limits"):
            assert self._session.delete(f"{self.url}/sim/{what}", timeout=10).ok

    def orders(self) -> list[dict[str, Any]]:
        """Every order of the bot's account, by the exchange's own books."""
        rows: list[dict[str, Any]] = self.get("/sim/orders")["orders"]
        return [row for row in rows if row["uid"] == self.uid]

    def quote(self, symbol: str) -> tuple[Decimal, Decimal]:
        """(bid, ask) now."""
        book = self.get("/api/v3/ticker/bookTicker", symbol=symbol)
        return Decimal(book["bidPrice"]), Decimal(book["askPrice"])
