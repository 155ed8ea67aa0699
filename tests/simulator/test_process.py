"""`python -m simulator` as a process: its ready line, its refusals, its end, and what survives it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import connect

from tests.simulator.conftest import RECORDING, Trader, poll, run_apart

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A server started from the command line, up once its ready line has been read."""

    def __init__(self, *arguments: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "simulator", *arguments],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.popen.stdout is not None
        self.ready = self.popen.stdout.readline().strip()
        match = re.search(r"http://\S+$", self.ready)
        assert match, self.popen.communicate(timeout=10)[1]
        self.url = match.group()

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.popen.send_signal(number)
        _, errors = self.popen.communicate(timeout=10)
        return self.popen.returncode, errors


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Two hours of a flat market: a server that replays it starts quicker than a generated one."""
    path = tmp_path / "BTCUSDT-1m-flat.csv"
    rows = [f"{1_677_628_800_000 + n * 60_000},20000,20010,19990,20005,1.5\n" for n in range(120)]
    path.write_text("open_time_ms,open,high,low,close,volume\n" + "".join(rows))
    return str(path)


@pytest.fixture
def start() -> Iterator[Any]:
    started: list[Process] = []

    def run(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield run
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate(timeout=10)


def refused(*arguments: str) -> str:
    """The one line with which the program refuses to start."""
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "serve", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def resumed(trader: Trader, url: str) -> Trader:
    """The same keys against a restarted server."""
    again = Trader.__new__(Trader)
    again.__dict__ = trader.__dict__ | {"url": url}
    return again


def test_ready_line_names_the_address_of_each_server(start: Any) -> None:
    exchange, model = start("serve", "--port", "0"), start("model", "--port", "0")

    assert re.fullmatch(r"simulator ready http://127\.0\.0\.1:\d+", exchange.ready)
    assert re.fullmatch(r"model ready http://127\.0\.0\.1:\d+", model.ready)
    assert requests.get(f"{exchange.url}/api/v3/ping", timeout=30).json() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_closes_sockets_and_ends_cleanly(start: Any, number: signal.Signals) -> None:
    process = start("serve", "--port", "0", "--speed", "60")

    async def session() -> int | None:
        url = process.url.replace("http", "ws")
        async with connect(f"{url}/ws/btcusdt@kline_1m", proxy=None) as stream:
            await stream.recv()
            process.popen.send_signal(number)
            await stream.wait_closed()
            return stream.close_code

    assert run_apart(session()) == 1001
    _, errors = process.popen.communicate(timeout=10)

    assert (process.popen.returncode, errors) == (0, "")


def test_silent_client_does_not_hold_up_the_end(start: Any, recording: str) -> None:
    process = start("serve", "--port", "0", "--replay", recording)
    host, port = process.url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(
            b"GET /ws/btcusdt@bookTicker HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in idle.recv(100)
        status, errors = process.end(signal.SIGTERM)

    assert (status, errors) == (0, "")


def test_outage_closes_the_port_and_opens_it_again(start: Any) -> None:
    url = start("serve", "--port", "0").url
    body = {"kind": "down", "seconds": 0.5, "mode": "refuse"}
    assert requests.post(f"{url}/sim/faults", json=body, timeout=30).status_code == 200

    port = int(url.rpartition(":")[2])
    poll(lambda: not _is_listening(port))
    poll(lambda: _is_listening(port))

    assert requests.get(f"{url}/api/v3/ping", timeout=30).status_code == 200


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_broken_scenario_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "storm.toml"
    file.write_text("[[fault]]\nkind = 'reset'\n")

    assert "storm.toml: fault 1: at" in refused("--port", "0", "--scenario", str(file))


def test_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert f"port {port} on 127.0.0.1 is taken" in refused("--port", str(port))


def test_broken_candle_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-broken.csv"
    path.write_text("open_time_ms,open,high,low,close,volume\n1677628800000,10,11,9,ten,1\n")

    assert f"{path}:2: close 'ten' is not a plain number" in refused("--port", "0", "--replay", str(path))


def test_missing_candle_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-missing.csv"

    assert f"{path}: cannot be read: No such file or directory" in refused(
        "--port", "0", "--replay", str(path)
    )


def test_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert f"{tmp_path / 'file' / 'data'} is not writable" in refused(
        "--port", "0", "--data", str(tmp_path / "file" / "data")
    )


def test_state_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "simulator.sqlite3").write_text("not a database " * 100)

    assert f"{tmp_path / 'simulator.sqlite3'} cannot be opened" in refused(
        "--port", "0", "--data", str(tmp_path)
    )


def test_second_server_on_the_same_data_is_refused(start: Any, tmp_path: Path, recording: str) -> None:
    arguments = ("--port", "0", "--data", str(tmp_path), "--replay", recording)
    start("serve", *arguments)

    assert "cannot be opened: database is locked" in refused(*arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_state_survives_the_end_of_the_process(
    start: Any, tmp_path: Path, recording: str, number: signal.Signals
) -> None:
    arguments = ("serve", "--port", "0", "--data", str(tmp_path), "--replay", recording)
    first = start(*arguments)
    trader = Trader(first.url, {"USDT": "10000"})
    filled = trader.order(type="MARKET", quoteOrderQty="1000", newClientOrderId="filled").json()
    price = f"{trader.last_price() * 0.8:.2f}"
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=price, newClientOrderId="open")
    paths = [("account", {}), ("allOrders", {"symbol": "BTCUSDT"}), ("myTrades", {"symbol": "BTCUSDT"})]
    before = [trader.signed("GET", path, **params).json() for path, params in paths]
    first.end(number)

    again = resumed(trader, start(*arguments).url)

    assert [again.signed("GET", path, **params).json() for path, params in paths] == before
    assert [row["clientOrderId"] for row in again.signed("GET", "openOrders").json()] == ["open"]
    later = again.order(type="MARKET", quoteOrderQty="100").json()
    assert later["orderId"] > filled["orderId"]
    assert later["fills"][0]["tradeId"] > filled["fills"][-1]["tradeId"]
    assert again.signed("DELETE", "order", symbol="BTCUSDT", origClientOrderId="open").status_code == 200
    totals = requests.get(f"{again.url}/sim/ledger", timeout=30).json()["totals"]
    assert set(totals.values()) == {"0.00000000"}


def test_every_answered_order_survives_a_kill_in_mid_flood(start: Any, tmp_path: Path) -> None:
    arguments = (
        "serve",
        "--port",
        "0",
        "--data",
        str(tmp_path),
        "--speed",
        "600",
        "--replay",
        str(RECORDING),
    )
    process = start(*arguments)
    trader = Trader(process.url, {"USDT": "10000"})
    answered = []
    for number in range(60):
        if number == 59:
            os.kill(process.popen.pid, signal.SIGKILL)
        try:
            answered.append(trader.order(type="MARKET", quoteOrderQty="20").json()["orderId"])
        except requests.ConnectionError:
            break
    process.popen.wait(10)

    again = resumed(trader, start(*arguments).url)

    stored = [row["orderId"] for row in again.signed("GET", "allOrders", symbol="BTCUSDT").json()]
    assert stored[: len(answered)] == answered and len(answered) >= 59


def test_replay_goes_on_from_where_it_stopped(start: Any, tmp_path: Path) -> None:
    arguments = (
        "serve",
        "--port",
        "0",
        "--data",
        str(tmp_path),
        "--speed",
        "6000",
        "--replay",
        str(RECORDING),
    )
    first = start(*arguments)

    def market(url: str) -> Any:
        return requests.get(f"{url}/sim/market", timeout=30).json()

    poll(lambda: market(first.url)["symbols"]["BTCUSDT"]["candles_closed"] > 700)
    stopped = market(first.url)
    first.end(signal.SIGTERM)
    second = start(*arguments[:-3], "1", *arguments[-2:])

    resumed_at = market(second.url)
    rows = Trader(second.url, {}).get("klines", symbol="BTCUSDT", interval="1m", limit=1000).json()

    assert stopped["market_time_ms"] <= resumed_at["market_time_ms"] < stopped["market_time_ms"] + 3_600_000
    assert [b[0] - a[0] for a, b in pairwise(rows)] == [60_000] * (len(rows) - 1)
    assert len(rows) > 700
