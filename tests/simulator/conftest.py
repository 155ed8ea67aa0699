"""Servers in a thread of their own, so that blocking clients can be driven against real sockets."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import random
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from aiohttp import web

from simulator.server import VENUE, Venue, VenueSettings, make_app

RECORDED_CANDLES = 4000


def _write_recording() -> Path:
    """A candle file of the recorded ones' form (also their `9e-05`), made here so that tests need no other file."""
    rng = random.Random(20230301)
    rows, price, at_ms = ["open_time_ms,open,high,low,close,volume"], 23_140.0, 1_677_628_800_000
    for _ in range(RECORDED_CANDLES):
        close = max(15_000.0, price * (1 + rng.gauss(0, 0.0007)))
        high = max(price, close) * (1 + abs(rng.gauss(0, 0.0002)))
        low = min(price, close) * (1 - abs(rng.gauss(0, 0.0002)))
        volume = rng.choice([9e-05, round(rng.expovariate(0.5), 6) + 1e-06])
        prices = ",".join(f"{value:.2f}" for value in (price, high, low, close))
        rows.append(f"{at_ms},{prices},{round(volume, 6)!r}")
        price, at_ms = close, at_ms + 60_000
    path = Path(tempfile.mkdtemp(prefix="tradingbot-test-recording-")) / "BTCUSDT-1m-2023-03-01_21.csv.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode() + b"\n"))
    return path


RECORDING = _write_recording()


class Served:
    """An application served on a free port by a thread with its own loop."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def venue(self) -> Venue:
        return self.app[VENUE]

    def call(self, function: Callable[[], Any]) -> Any:
        """Run a function on the server's own thread and hand back its result."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()


class Trader:
    """A hand-written client: signs and sends as the docs say, and shows the raw answer."""

    def __init__(self, url: str, balances: dict[str, str]) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False
        opened = self.http.post(f"{url}/sim/accounts", json={"balances": balances}, timeout=30)
        assert opened.status_code == 200, opened.text
        self.keys = opened.json()
        self.api_key, self.secret = self.keys["apiKey"], self.keys["secretKey"]

    def sign(self, payload: str) -> str:
        return hmac.new(self.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.http.get(f"{self.url}/api/v3/{path}", params=params, timeout=30)

    def signed(self, method: str, path: str, **params: Any) -> requests.Response:
        params.setdefault("timestamp", int(time.time() * 1000))
        query = urlencode(params)
        url = f"{self.url}/api/v3/{path}?{query}&signature={self.sign(query)}"
        return self.http.request(method, url, headers={"X-MBX-APIKEY": self.api_key}, timeout=30)

    def order(self, **params: Any) -> requests.Response:
        return self.signed("POST", "order", **({"symbol": "BTCUSDT", "side": "BUY"} | params))

    def last_price(self, symbol: str = "BTCUSDT") -> float:
        return float(self.get("ticker/price", symbol=symbol).json()["price"])


def run_apart(main: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run in a thread of its own: a browser test may have left a running loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main).result()


def code(response: requests.Response) -> tuple[int, int]:
    """HTTP status and Binance's code of an error, which must come as JSON."""
    assert response.headers["Content-Type"].startswith("application/json")
    return response.status_code, response.json()["code"]


def poll(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first truthy answer of `condition`; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A generated market, shared by all tests; each opens an account of its own."""
    server = Served(make_app(VenueSettings(seed=7)))
    yield server
    server.close()


@pytest.fixture
def trader(served: Served) -> Trader:
    return Trader(served.url, {"USDT": "100000", "BTC": "1"})
