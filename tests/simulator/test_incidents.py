"""Faults that act at once, the clock, the wipe and scenario files, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from simulator.engine.contracts import ListKind, ListRequest, OrderStatus, OrderType
from simulator.scenario import ScenarioError, read_scenario
from simulator.server import Venue, VenueSettings, make_app
from tests.simulator.conftest import Served, Trader, code, poll
from tests.simulator.market_builder import SYMBOL, limit, move, stop
from tests.simulator.test_streams import ask, signed_params, talk


@pytest.fixture
def own() -> Iterator[Served]:
    """A server that may be mistreated."""
    server = Served(make_app(VenueSettings(seed=7)))
    yield server
    server.close()


@pytest.fixture
def client(own: Served) -> Trader:
    return Trader(own.url, {"USDT": "100000", "BTC": "1"})


def control(trader: Trader, path: str, body: dict[str, Any]) -> Any:
    response = trader.http.post(f"{trader.url}/sim/{path}", json=body, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def rest(trader: Trader, factor: float = 0.9) -> Any:
    price = f"{trader.last_price() * factor:.2f}"
    return trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=price).json()


def test_halted_symbol_refuses_orders_and_says_so(client: Trader) -> None:
    control(client, "faults", {"kind": "symbol_status", "symbol": "BTCUSDT", "value": "HALT"})

    info = client.get("exchangeInfo", symbol="BTCUSDT").json()["symbols"][0]
    refused = client.order(type="MARKET", quantity="0.01")

    halted = client.get("exchangeInfo", symbolStatus="HALT").json()["symbols"]

    assert info["status"] == "HALT"
    assert [entry["symbol"] for entry in halted] == ["BTCUSDT"]
    assert (code(refused), refused.json()["msg"]) == ((400, -2010), "Market is closed.")


def test_filter_change_is_seen_and_binds(client: Trader) -> None:
    control(
        client, "faults", {"kind": "filter_change", "symbol": "BTCUSDT", "values": {"min_notional": "5000"}}
    )

    info = client.get("exchangeInfo", symbol="BTCUSDT").json()["symbols"][0]
    notional = next(f for f in info["filters"] if f["filterType"] == "NOTIONAL")

    assert notional["minNotional"] == "5000.00000000"
    assert client.order(type="MARKET", quantity="0.01").json()["msg"] == "Filter failure: NOTIONAL"


def test_clock_skew_moves_server_time(client: Trader) -> None:
    control(client, "faults", {"kind": "clock_skew", "ms": -2_000})

    server_ms = client.get("time").json()["serverTime"]

    assert server_ms < time.time() * 1000 - 1_500
    assert code(client.signed("GET", "account")) == (400, -1021)


def test_outage_cuts_requests_or_answers_503_and_ends(client: Trader) -> None:
    control(client, "faults", {"kind": "down", "seconds": 0.5, "mode": "reset"})
    with pytest.raises(requests.ConnectionError):
        client.get("ping")
    poll(lambda: _answers(client))

    control(client, "faults", {"kind": "down", "seconds": 30, "mode": "status", "status": 502})
    page = client.get("ping")

    assert page.status_code == 502
    assert page.headers["Content-Type"].startswith("text/html")


def _answers(trader: Trader) -> bool:
    try:
        return trader.get("ping").status_code == 200
    except requests.ConnectionError:
        return False


def test_rate_limit_says_when_to_come_back(client: Trader) -> None:
    control(client, "faults", {"kind": "rate_limit", "seconds": 30})

    refused = client.get("ping")

    assert code(refused) == (429, -1003)
    assert 25 <= int(refused.headers["Retry-After"]) <= 30


def test_foreign_order_and_withdrawal_touch_the_account(client: Trader) -> None:
    price = f"{client.last_price() * 0.9:.2f}"
    order = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": price}

    control(
        client,
        "faults",
        {"kind": "foreign_order", "symbol": "BTCUSDT", "api_key": client.api_key, "values": order},
    )
    control(
        client,
        "faults",
        {"kind": "withdrawal", "api_key": client.api_key, "values": {"asset": "BTC", "amount": "0.4"}},
    )

    assert client.signed("GET", "openOrders").json()[0]["clientOrderId"].startswith("web_")
    balances = {b["asset"]: b for b in client.signed("GET", "account").json()["balances"]}
    assert balances["BTC"]["free"] == "0.60000000"


def test_withdrawal_of_more_than_there_is_is_refused_and_disarmed(client: Trader) -> None:
    body = {"kind": "withdrawal", "api_key": client.api_key, "values": {"asset": "BTC", "amount": "4"}}

    refused = client.http.post(f"{client.url}/sim/faults", json=body, timeout=30)

    assert (refused.status_code, refused.json()["code"]) == (400, -2010)
    assert not any(f["armed"] for f in client.http.get(f"{client.url}/sim/faults", timeout=30).json())


def test_half_open_socket_says_nothing_more_and_stays_open(own: Served, client: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        control(client, "faults", {"kind": "half_open", "path": "/ws-api", "seconds": 0.4})
        await socket.send(json.dumps({"id": 1, "method": "ping", "params": {}}))
        return await ask_until_answered(socket)

    reply = talk(f"{own.url}/ws-api/v3", session)

    assert reply["id"] > 2


async def ask_until_answered(socket: ClientConnection) -> Any:
    for number in range(2, 100):
        await socket.send(json.dumps({"id": number, "method": "ping", "params": {}}))
        try:
            return json.loads(await asyncio.wait_for(socket.recv(), 0.1))
        except TimeoutError:
            continue
    raise AssertionError("never answered again")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/ws/btcusdt@trade", {"e": "serverShutdown"}),
        ("/stream?streams=btcusdt@trade", {"stream": "!serverShutdown"}),
        ("/ws-api/v3", {"event"}),
    ],
)
def test_server_shutdown_is_told_before_the_close(
    own: Served, client: Trader, path: str, expected: Any
) -> None:
    async def session(socket: ClientConnection) -> Any:
        control(client, "faults", {"kind": "server_shutdown", "ms": 50})
        heard = []
        with suppress(ConnectionClosed):
            while True:
                heard.append(json.loads(await socket.recv()))
        assert socket.close_code == 1001
        return heard

    heard = talk(f"{own.url}{path}", session)

    told = [message for message in heard if "serverShutdown" in json.dumps(message)]
    assert len(told) == 1
    assert set(expected) <= set(told[0])


def test_delayed_event_overtakes_nothing_and_arrives(own: Served, client: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(client))
        control(client, "faults", {"kind": "delay_user_events", "path": "executionReport", "ms": 150})
        rest(client)
        return [json.loads(await socket.recv())["event"]["e"] for _ in range(2)]

    assert talk(f"{own.url}/ws-api/v3", session) == ["outboundAccountPosition", "executionReport"]


def test_socket_ends_at_the_age_limit() -> None:
    server = Served(make_app(VenueSettings(seed=7, connection_seconds=0.5)))

    async def session(socket: ClientConnection) -> Any:
        await socket.wait_closed()
        return socket.close_code

    try:
        assert talk(f"{server.url}/ws/btcusdt@miniTicker", session) == 1001
    finally:
        server.close()


def test_muted_closed_kline_leaves_a_gap() -> None:
    server = Served(make_app(VenueSettings(seed=7, speed=600)))
    trader = Trader(server.url, {})

    async def session(socket: ClientConnection) -> list[int]:
        closed: list[int] = []
        while len(closed) < 6:
            kline = json.loads(await socket.recv())["k"]
            if kline["x"]:
                closed.append(kline["t"])
                if len(closed) == 1:
                    control(trader, "faults", {"kind": "mute_closed_kline", "symbol": "BTCUSDT"})
        return closed

    try:
        closed = talk(f"{server.url}/ws/btcusdt@kline_1m", session)
    finally:
        server.close()

    steps = [later - earlier for earlier, later in pairwise(closed)]
    assert sorted(steps) == [60_000] * 4 + [120_000]


def test_stepped_clock_moves_only_when_told(client: Trader) -> None:
    stopped = control(client, "clock", {"mode": "stepped"})
    moved = control(client, "clock", {"step_ms": 180_000})

    played = [m["symbols"]["BTCUSDT"]["candles_played"] for m in (stopped, moved)]
    assert played[1] - played[0] == 3
    assert moved["market_time_ms"] - stopped["market_time_ms"] >= 179_000
    assert control(client, "clock", {"mode": "scaled", "speed": 60})["speed"] == 60
    bad = client.http.post(f"{client.url}/sim/clock", json={"mode": "scaled"}, timeout=30)
    assert bad.status_code == 400


def test_reset_forgets_everything_but_the_keys(client: Trader) -> None:
    rest(client)
    control(client, "reset", {"balances": {"USDT": "777"}})

    assert client.signed("GET", "openOrders").json() == []
    assert client.signed("GET", "account").json()["balances"] == [
        {"asset": "USDT", "free": "777.00000000", "locked": "0.00000000"}
    ]
    order = client.order(
        type="LIMIT", timeInForce="GTC", quantity="0.01", price=f"{client.last_price() * 0.9:.2f}"
    )
    assert order.json()["orderId"] == 1
    assert set(client.http.get(f"{client.url}/sim/ledger", timeout=30).json()["totals"].values()) == {
        "0.00000000"
    }


def test_reset_survives_a_restart(tmp_path: Path) -> None:
    venue = Venue(VenueSettings(seed=7, data=tmp_path))
    opened = venue.execute(lambda: venue.exchange.open_account("key", "secret", 0))
    venue.execute(lambda: venue.exchange.deposit(opened.account_id, "USDT", Decimal(100_000), 0))
    venue.execute(lambda: venue.exchange.place(opened.account_id, limit("BUY", 60_000, "0.01"), 0))
    venue.execute(lambda: venue.reset({"USDT": Decimal(777)}))
    venue.close()

    again = Venue(VenueSettings(seed=7, data=tmp_path))
    restored = again.exchange
    again.close()

    assert list(restored.records.all_orders()) == []
    assert restored.ledger.balance(restored.account_ids["key"], "USDT").free == 777
    assert restored.records.next_id("account") == 2
    restored.audit()


def test_waiting_stops_and_lists_survive_a_restart(tmp_path: Path) -> None:
    venue = Venue(VenueSettings(seed=7, data=tmp_path))
    exchange = venue.exchange
    owner = venue.execute(lambda: exchange.open_account("key", "secret", 0)).account_id
    venue.execute(lambda: exchange.deposit(owner, "BTC", Decimal(1), 0))
    last = int(exchange._floor.last_prices[SYMBOL])
    profit = limit("SELL", last * 11 // 10, "0.01", type=OrderType.LIMIT_MAKER, client_order_id="profit")
    loss = stop("STOP_LOSS", "SELL", "0.01", last * 9 // 10, client_order_id="loss")
    placed = venue.execute(
        lambda: exchange.place_list(owner, ListRequest(ListKind.OCO, SYMBOL, "list", (profit, loss)), 0)
    )
    venue.close()

    again = Venue(VenueSettings(seed=7, data=tmp_path))
    again.execute(lambda: move(again.exchange, str(last // 2)))
    legs = again.exchange.records.legs(again.exchange.records.lists[placed.order_list.list_id])
    again.close()

    assert [leg.status for leg in legs] == [OrderStatus.EXPIRED, OrderStatus.FILLED]
    assert again.exchange.records.lists[placed.order_list.list_id].is_done
    again.exchange.audit()


def test_scenario_runs_by_its_timetable(tmp_path: Path) -> None:
    file = tmp_path / "storm.toml"
    file.write_text(
        'clock = "market"\n[[fault]]\nat = 30\nevery = 30\ntimes = 5\njitter = 3\nkind = "symbol_status"\n'
        'symbol = "ETHUSDT"\nvalue = "HALT"\n[[fault]]\nat = 1\nkind = "withdrawal"\n'
        'values = { asset = "BTC", amount = "9" }\n'
    )
    server = Served(make_app(VenueSettings(seed=7, speed=600, scenario=file)))
    trader = Trader(server.url, {})
    try:
        faults = poll(lambda: _fired(trader, 5))
    finally:
        server.close()

    assert all(len(fault["firings"]) == 1 for fault in faults)


def _fired(trader: Trader, count: int) -> list[dict[str, Any]] | None:
    faults = trader.http.get(f"{trader.url}/sim/faults", timeout=30).json()
    fired = [fault for fault in faults if fault["kind"] == "symbol_status"]
    return fired if len(fired) == count else None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[fault]]\nkind = 'reset'\n", "fault 1: at"),
        ("[[fault]]\nat = 1\nkind = 'nonsense'\n", "fault 1: 'nonsense'"),
        ("[[fault]]\nat = 1\nkind = 'reset'\nevery = 5\n", "fault 1: every needs times"),
        ("clock = 'sun'\n", "clock"),
        ("at = ", "is not TOML"),
    ],
)
def test_broken_scenario_is_refused_by_name(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)

    with pytest.raises(ScenarioError, match=problem) as caught:
        read_scenario(file)

    assert "bad.toml" in str(caught.value)
