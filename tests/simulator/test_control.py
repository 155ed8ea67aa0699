"""The control paths: accounts, the exchange's own truth, the market switch and faults."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import requests

from simulator.server import VenueSettings, make_app
from tests.simulator.conftest import RECORDING, Served, Trader, poll
from tests.simulator.test_streams import ask, signed_params, talk


def post(trader: Trader, path: str, body: Any) -> requests.Response:
    return trader.http.post(f"{trader.url}/sim/{path}", json=body, timeout=30)


def read(trader: Trader, path: str) -> Any:
    return trader.http.get(f"{trader.url}/sim/{path}", timeout=30).json()


def fault(trader: Trader, **values: Any) -> int:
    response = post(trader, "faults", values)
    assert response.status_code == 200, response.text
    return response.json()["fault_id"]


def listed(trader: Trader, fault_id: int) -> dict[str, Any]:
    return next(row for row in read(trader, "faults") if row["fault_id"] == fault_id)


def test_keys_can_be_told_from_keys_of_a_real_exchange(trader: Trader) -> None:
    assert trader.api_key.startswith("SIMKEY") and len(trader.api_key) == 64
    assert trader.secret.startswith("SIMSECRET")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("accounts", {"balances": {"USDT": 100}}),
        ("accounts", {"balances": {"usdt": "100"}}),
        ("accounts", {"balances": {"USDT": "-1"}}),
        ("accounts", {"balances": {"USDT": "NaN"}}),
        ("accounts", {"balance": {}}),
        ("accounts", []),
        ("deposit", {"apiKey": "nobody", "asset": "USDT", "amount": "1"}),
        ("market", {"paused": "yes"}),
        ("faults", {"kind": "explode"}),
        ("faults", {"kind": "status", "status": 200}),
        ("faults", {"kind": "delay_ms", "ms": -1}),
        ("faults", {"kind": "delay_ms", "count": 0}),
        ("faults", {"kind": "delay_ms", "unknown": 1}),
    ],
)
def test_bad_control_request_is_refused_with_a_sentence(trader: Trader, path: str, body: Any) -> None:
    response = post(trader, path, body)

    assert response.status_code == 400
    assert response.json()["error"]


def test_page_in_a_browser_cannot_reach_the_control_paths(trader: Trader) -> None:
    response = trader.http.get(
        f"{trader.url}/sim/accounts", headers={"Origin": "http://evil.example"}, timeout=30
    )

    assert response.status_code == 403


def test_ledger_sums_to_zero_after_trading(trader: Trader) -> None:
    trader.order(type="MARKET", quoteOrderQty="1000")
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=f"{trader.last_price() * 0.9:.2f}")

    ledger = read(trader, "ledger")

    assert set(ledger["totals"].values()) == {"0.00000000"}
    assert "BTC" in ledger["house"]["FEES"]


def test_orders_and_books_show_every_account(served: Served, trader: Trader) -> None:
    order = trader.order(
        type="LIMIT", timeInForce="GTC", quantity="0.01", price=f"{trader.last_price() * 0.9:.2f}"
    ).json()

    orders, books = read(trader, "orders"), read(trader, "books")

    uid = trader.keys["uid"]
    assert [row["orderId"] for row in orders["orders"] if row["uid"] == uid] == [order["orderId"]]
    assert [row["orderId"] for row in books["BTCUSDT"]["resting"] if row["uid"] == uid] == [order["orderId"]]
    assert len(books["BTCUSDT"]["bids"]) == 20


def test_paused_market_stands_still_and_goes_on_from_there() -> None:
    server = Served(make_app(VenueSettings(replay=(RECORDING,), speed=600)))
    try:
        trader = Trader(server.url, {})
        stopped = post(trader, "market", {"paused": True}).json()
        again = read(trader, "market")
        post(trader, "market", {"paused": False})

        assert stopped["paused"] and again["market_time_ms"] == stopped["market_time_ms"]
        poll(lambda: read(trader, "market")["market_time_ms"] > stopped["market_time_ms"])
    finally:
        server.close()


def test_market_stands_still_when_the_replay_has_ended(tmp_path: Any) -> None:
    rows = "".join(f"{1_677_628_800_000 + n * 60_000},10,11,9,10.5,1\n" for n in range(4))
    path = tmp_path / "BTCUSDT-1m-short.csv"
    path.write_text("open_time_ms,open,high,low,close,volume\n" + rows)
    server = Served(make_app(VenueSettings(replay=(path,), speed=100_000)))
    try:
        trader = Trader(server.url, {"USDT": "100"})
        market = poll(lambda: (m := read(trader, "market"))["ended"] and m)

        assert market["symbols"]["BTCUSDT"]["candles_closed"] == 4
        assert trader.last_price() == 10.5
        assert trader.order(type="MARKET", quoteOrderQty="50").json()["status"] == "FILLED"
        assert len(trader.get("klines", symbol="BTCUSDT", interval="1m").json()) == 4
        assert read(trader, "market")["market_time_ms"] == market["market_time_ms"]
    finally:
        server.close()


def test_dropped_answer_executes_the_order_and_says_nothing(trader: Trader) -> None:
    fault_id = fault(trader, kind="drop_answer", method="POST", path="/api/v3/order")

    with pytest.raises(requests.ConnectionError):
        trader.order(type="MARKET", quoteOrderQty="50", newClientOrderId="lost")

    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="lost").json()
    assert found["status"] == "FILLED"
    row = listed(trader, fault_id)
    assert (row["armed"], row["firings"][0]["path"]) == (False, "/api/v3/order")


@pytest.mark.parametrize(("phase", "placed"), [("before", 0), ("after", 1)])
def test_status_fault_strikes_before_or_after_execution(trader: Trader, phase: str, placed: int) -> None:
    fault(
        trader,
        kind="status",
        method="POST",
        path="/api/v3/order",
        status=503,
        code=-1007,
        msg="Timeout",
        phase=phase,
    )

    response = trader.order(type="MARKET", quoteOrderQty="50")

    assert (response.status_code, response.json()) == (503, {"code": -1007, "msg": "Timeout"})
    assert len(trader.signed("GET", "allOrders", symbol="BTCUSDT").json()) == placed
    assert trader.order(type="MARKET", quoteOrderQty="50").status_code == 200


def test_rate_limit_fault_has_a_retry_after(trader: Trader) -> None:
    fault(trader, kind="status", path="/api/v3/ping", status=429, code=-1003, msg="Too many requests")

    assert trader.get("ping").headers["Retry-After"] == "1"


def test_delayed_answer_comes_late_but_comes(trader: Trader) -> None:
    fault(trader, kind="delay_ms", path="/api/v3/ping", ms=300)

    started = time.monotonic()
    assert trader.get("ping").status_code == 200

    assert time.monotonic() - started >= 0.3


def test_order_is_unknown_for_a_while_under_not_found_lag(trader: Trader) -> None:
    fault_id = fault(trader, kind="not_found_lag", seconds=60, count=2)
    price = f"{trader.last_price() * 0.9:.2f}"
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.001", price=price, newClientOrderId="young")

    hidden = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="young")
    open_orders = trader.signed("GET", "openOrders", symbol="BTCUSDT").json()
    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="young")

    assert hidden.json() == {"code": -2013, "msg": "Order does not exist."}
    assert open_orders == []
    assert found.json()["status"] == "NEW"
    assert len(listed(trader, fault_id)["firings"]) == 2


def test_muted_user_events_are_missing(served: Served, trader: Trader) -> None:
    fault(trader, kind="mute_user_events", path="executionReport", count=2)

    async def session(socket: Any) -> list[str]:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))
        order = signed_params(trader, symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.0001")
        await ask(socket, "order.place", 2, **order)
        body = {"apiKey": trader.api_key, "asset": "USDT", "amount": "1"}
        trader.http.post(f"{trader.url}/sim/deposit", json=body, timeout=30)
        names: list[str] = []
        while "balanceUpdate" not in names:
            frame = json.loads(await socket.recv())
            names += [frame["event"]["e"]] if "event" in frame else []
        return names

    names = talk(f"{served.url}/ws-api/v3", session)

    # NEW and TRADE are gone; the position came before the reply, so ask() passed over it.
    assert "executionReport" not in names


def test_close_fault_ends_sockets_with_its_code(served: Served, trader: Trader) -> None:
    async def session(socket: Any) -> int:
        await ask(socket, "ping")
        fault(trader, kind="close_ws", path="/ws-api", close_code=1008, count=10)
        await socket.wait_closed()
        return socket.close_code

    assert talk(f"{served.url}/ws-api/v3", session) == 1008


def test_ws_api_answer_can_be_dropped_after_execution(served: Served, trader: Trader) -> None:
    fault(trader, kind="drop_answer", method="WS", path="/ws-api/v3/order.place")

    async def session(socket: Any) -> None:
        order = signed_params(
            trader, symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001", newClientOrderId="ws-lost"
        )
        await socket.send(json.dumps({"id": 1, "method": "order.place", "params": order}))
        await socket.wait_closed()

    talk(f"{served.url}/ws-api/v3", session)

    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="ws-lost").json()
    assert found["status"] == "FILLED"


def test_disarmed_faults_do_not_fire(trader: Trader) -> None:
    fault(trader, kind="status", path="/api/v3/ping", count=5)

    trader.http.delete(f"{trader.url}/sim/faults", timeout=30)

    assert trader.get("ping").status_code == 200
