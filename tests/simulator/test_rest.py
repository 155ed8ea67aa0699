"""REST as the wire shows it: signatures, time windows, parameters, shapes and headers."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from tests.simulator.conftest import Served, Trader, code

ILLEGAL_QUANTITY = (
    r"Illegal characters found in parameter 'quantity'; legal range is '^([0-9]{1,20})(\.[0-9]{1,20})?$'."
)
ILLEGAL_CLIENT_ID = (
    "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[a-zA-Z0-9-_]{1,36}$'."
)


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.mark.parametrize(
    ("params", "expected", "message"),
    [
        ({"symbol": "NOSUCH"}, -1121, "Invalid symbol."),
        ({"symbol": ""}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "STOP"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
        ({"price": None}, -1102, "Mandatory parameter 'price' was not sent, was empty/null, or malformed."),
        ({"quoteOrderQty": "10"}, -1106, "Parameter 'quoteOrderQty' sent when not required."),
        ({"type": "MARKET"}, -1106, "Parameter 'timeInForce' sent when not required."),
        ({"quantity": "1e-3"}, -1100, ILLEGAL_QUANTITY),
        ({"newClientOrderId": "no spaces"}, -1100, ILLEGAL_CLIENT_ID),
        ({"newClientOrderId": "x" * 37}, -1100, ILLEGAL_CLIENT_ID),
        ({"newOrderRespType": "ALL"}, -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
        ({"strategyType": "5"}, -1134, "`strategyType` was less than 1000000."),
        ({"strategyId": "9" * 20}, -1108, "Parameter 'strategyId' overflowed."),
        ({"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
    ],
)  # fmt: skip
def test_bad_order_is_refused_with_code_and_text(
    trader: Trader, params: dict[str, Any], expected: int, message: str
) -> None:
    good = {
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01",
        "price": f"{trader.last_price() * 0.9:.2f}",
    }

    response = trader.order(**{k: v for k, v in (good | params).items() if v is not None})

    assert code(response) == (400, expected)
    assert response.json()["msg"] == message


def test_duplicate_of_an_open_order_is_refused_and_the_original_lives(trader: Trader) -> None:
    params = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "newClientOrderId": "twice"}
    params["price"] = f"{trader.last_price() * 0.9:.2f}"
    first = trader.order(**params).json()

    second = trader.order(**params)

    assert code(second) == (400, -2010)
    assert second.json()["msg"] == "Duplicate order sent."
    found = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="twice").json()
    assert (found["orderId"], found["status"]) == (first["orderId"], "NEW")


@pytest.mark.parametrize(
    ("type_", "shape", "has_fills", "has_status"),
    [("MARKET", None, True, True), ("MARKET", "RESULT", False, True), ("MARKET", "ACK", False, False)],
)
def test_answer_has_the_asked_shape(
    trader: Trader, type_: str, shape: str | None, has_fills: bool, has_status: bool
) -> None:
    answer = trader.order(
        type=type_, quoteOrderQty="50", **({"newOrderRespType": shape} if shape else {})
    ).json()

    assert ("fills" in answer, "status" in answer) == (has_fills, has_status)
    assert answer["orderListId"] == -1


def test_limit_maker_is_acknowledged_only_by_default(trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"

    answer = trader.order(type="LIMIT_MAKER", quantity="0.001", price=price).json()

    assert set(answer) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}


def test_full_answer_adds_up(trader: Trader) -> None:
    answer = trader.order(type="MARKET", quoteOrderQty="1000").json()

    fills = answer["fills"]
    spent = sum(Decimal(fill["price"]) * Decimal(fill["qty"]) for fill in fills)
    assert Decimal(answer["cummulativeQuoteQty"]) == spent
    assert all(Decimal(f["commission"]) == Decimal(f["qty"]) * Decimal("0.001") for f in fills)
    assert all(len(fill["price"].partition(".")[2]) == 8 for fill in fills)


def test_order_test_checks_but_does_not_place(trader: Trader) -> None:
    good = trader.signed(
        "POST", "order/test", symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty="50"
    )
    bad = trader.signed("POST", "order/test", symbol="BTCUSDT", side="BUY", type="MARKET", quoteOrderQty="1")

    assert good.json() == {}
    assert code(bad) == (400, -1013)
    assert trader.signed("GET", "allOrders", symbol="BTCUSDT").json() == []


def test_unknown_order_is_not_found_and_cannot_be_canceled(trader: Trader) -> None:
    query = trader.signed("GET", "order", symbol="BTCUSDT", origClientOrderId="never")
    cancel = trader.signed("DELETE", "order", symbol="BTCUSDT", origClientOrderId="never")
    neither = trader.signed("GET", "order", symbol="BTCUSDT")

    assert (code(query), code(cancel), code(neither)) == ((400, -2013), (400, -2011), (400, -1102))


def test_order_of_another_account_is_not_found(served: Served, trader: Trader) -> None:
    order = trader.order(type="MARKET", quoteOrderQty="50").json()
    stranger = Trader(served.url, {"USDT": "100"})

    assert code(stranger.signed("GET", "order", symbol="BTCUSDT", orderId=order["orderId"])) == (400, -2013)


def test_order_id_and_client_id_that_disagree_are_refused(trader: Trader) -> None:
    order = trader.order(type="MARKET", quoteOrderQty="50").json()

    response = trader.signed(
        "GET", "order", symbol="BTCUSDT", orderId=order["orderId"], origClientOrderId="x"
    )

    assert code(response) == (400, -2039)


def test_cancel_names_both_ids(trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.001", price=price, newClientOrderId="mine")

    answer = trader.signed(
        "DELETE", "order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="the-cancel"
    ).json()

    assert (answer["origClientOrderId"], answer["clientOrderId"]) == ("mine", "the-cancel")
    assert answer["status"] == "CANCELED"


def test_cancel_restriction_that_does_not_hold_is_refused(trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"
    order = trader.order(type="LIMIT", timeInForce="GTC", quantity="0.001", price=price).json()

    response = trader.signed(
        "DELETE",
        "order",
        symbol="BTCUSDT",
        orderId=order["orderId"],
        cancelRestrictions="ONLY_PARTIALLY_FILLED",
    )

    assert response.json() == {"code": -2011, "msg": "Order was not canceled due to cancel restrictions."}


def test_cancel_all_takes_every_order_of_the_symbol(trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"
    for _ in range(3):
        trader.order(type="LIMIT", timeInForce="GTC", quantity="0.001", price=price)

    answer = trader.signed("DELETE", "openOrders", symbol="BTCUSDT").json()

    assert [row["status"] for row in answer] == ["CANCELED"] * 3
    assert code(trader.signed("DELETE", "openOrders", symbol="BTCUSDT")) == (400, -2011)


def test_all_orders_and_trades_page_by_id(trader: Trader) -> None:
    ids = [trader.order(type="MARKET", quoteOrderQty="50").json()["orderId"] for _ in range(3)]

    from_second = trader.signed("GET", "allOrders", symbol="BTCUSDT", orderId=ids[1]).json()
    latest = trader.signed("GET", "allOrders", symbol="BTCUSDT", limit=1).json()
    trades = trader.signed("GET", "myTrades", symbol="BTCUSDT").json()
    rest = trader.signed("GET", "myTrades", symbol="BTCUSDT", fromId=trades[1]["id"]).json()

    assert [row["orderId"] for row in from_second] == ids[1:]
    assert [row["orderId"] for row in latest] == ids[2:]
    assert rest == trades[1:]


def test_undocumented_combination_of_trade_filters_is_refused(trader: Trader) -> None:
    response = trader.signed("GET", "myTrades", symbol="BTCUSDT", orderId=1, startTime=1)

    assert code(response) == (400, -1128)


def test_span_of_more_than_a_day_is_refused(trader: Trader) -> None:
    response = trader.signed("GET", "allOrders", symbol="BTCUSDT", startTime=0, endTime=86_400_001)

    assert code(response) == (400, -1127)


def test_account_shows_locked_money_and_every_field_that_clients_need(trader: Trader) -> None:
    price = Decimal(f"{trader.last_price() * 0.9:.2f}")
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=str(price))

    account = trader.signed("GET", "account").json()

    usdt = next(balance for balance in account["balances"] if balance["asset"] == "USDT")
    assert Decimal(usdt["locked"]) == price * Decimal("0.01")
    assert Decimal(usdt["free"]) == 100_000 - Decimal(usdt["locked"])
    assert {"makerCommission", "canTrade", "updateTime", "accountType", "permissions", "uid"} <= set(account)


def test_commission_and_order_counts_answer(trader: Trader) -> None:
    trader.order(type="LIMIT", timeInForce="GTC", quantity="0.001", price=f"{trader.last_price() * 0.9:.2f}")

    commission = trader.signed("GET", "account/commission", symbol="BTCUSDT").json()
    counts = trader.signed("GET", "rateLimit/order").json()

    assert commission["standardCommission"]["taker"] == "0.00100000"
    assert [row["interval"] for row in counts] == ["SECOND", "DAY"]
    assert counts[1]["count"] == 1


def test_filled_order_gives_its_place_in_the_order_count_back(trader: Trader) -> None:
    answer = trader.order(type="MARKET", quoteOrderQty="50")

    assert answer.headers["X-MBX-ORDER-COUNT-1D"] == "0"


def test_successful_order_costs_no_weight_and_a_failed_one_does(trader: Trader) -> None:
    def used() -> int:
        return int(trader.get("ping").headers["X-MBX-USED-WEIGHT-1M"])

    before = used()
    trader.order(type="MARKET", quoteOrderQty="50")
    between = used()
    trader.order(type="MARKET", quoteOrderQty="1")
    after = used()

    if after > before:  # else the minute turned over between
        assert (between - before, after - between) == (1, 2)


def test_exchange_info_of_one_several_and_unknown_symbols(trader: Trader) -> None:
    one = trader.get("exchangeInfo", symbol="ETHUSDT").json()
    two = trader.get("exchangeInfo", symbols='["BTCUSDT","ETHUSDT"]').json()

    assert [row["symbol"] for row in one["symbols"]] == ["ETHUSDT"]
    assert [row["symbol"] for row in two["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    assert code(trader.get("exchangeInfo", symbols='["BTCUSDT","NOSUCH"]')) == (400, -1121)
    assert {limit["rateLimitType"] for limit in one["rateLimits"]} == {
        "REQUEST_WEIGHT",
        "ORDERS",
        "RAW_REQUESTS",
    }


def test_klines_page_by_open_time(trader: Trader) -> None:
    last = trader.get("klines", symbol="BTCUSDT", interval="1m", limit=1000).json()
    start, end = last[10][0], last[19][0]

    assert (
        trader.get("klines", symbol="BTCUSDT", interval="1m", startTime=start, limit=5).json() == last[10:15]
    )
    assert (
        trader.get("klines", symbol="BTCUSDT", interval="1m", startTime=start, endTime=end).json()
        == last[10:20]
    )
    assert trader.get("klines", symbol="BTCUSDT", interval="1m", endTime=end, limit=3).json() == last[17:20]
    assert (
        trader.get("klines", symbol="BTCUSDT", interval="1m", startTime=start + 1, limit=1).json()
        == last[11:12]
    )


def test_hourly_klines_are_made_of_minutes(trader: Trader) -> None:
    hours = trader.get("klines", symbol="BTCUSDT", interval="1h", limit=3).json()

    minutes = trader.get(
        "klines", symbol="BTCUSDT", interval="1m", startTime=hours[0][0], endTime=hours[0][6]
    ).json()

    assert len(minutes) == 60
    assert hours[0][1] == minutes[0][1] and hours[0][4] == minutes[-1][4]
    assert Decimal(hours[0][5]) == sum(Decimal(minute[5]) for minute in minutes)


def test_unknown_interval_and_bad_limit_are_refused(trader: Trader) -> None:
    assert code(trader.get("klines", symbol="BTCUSDT", interval="2m")) == (400, -1120)
    assert code(trader.get("klines", symbol="BTCUSDT", interval="1m", limit=0)) == (400, -1130)
    assert code(trader.get("klines", symbol="BTCUSDT", interval="1m", limit="ten")) == (400, -1100)


@pytest.mark.parametrize("path", ["userDataStream", "userDataStream/isolated"])
def test_listen_key_paths_are_gone(trader: Trader, path: str) -> None:
    response = trader.http.post(f"{trader.url}/api/v3/{path}", timeout=30)

    assert response.status_code == 410


def test_unknown_path_is_404_as_json(trader: Trader) -> None:
    assert code(trader.get("nothing/here"))[0] == 404
    assert trader.http.get(f"{trader.url}/api/v1/ping", timeout=30).status_code == 404


def test_server_time_is_the_wall_clock(trader: Trader) -> None:
    assert abs(trader.get("time").json()["serverTime"] - now_ms()) < 5_000


def test_too_much_weight_is_refused_with_retry_after(served: Served, trader: Trader) -> None:
    served.call(lambda: served.venue.desk.limiter.add_weight("127.0.0.1", 7_000, served.venue.now_ms()))
    try:
        response = trader.get("ping")
        if response.status_code == 200:  # the minute turned over between
            served.call(
                lambda: served.venue.desk.limiter.add_weight("127.0.0.1", 7_000, served.venue.now_ms())
            )
            response = trader.get("ping")
        assert code(response) == (429, -1003)
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    finally:
        served.call(served.venue.desk.limiter.forget)


@pytest.mark.parametrize("path", ["%ff", "%ED%A0%80", "ping%00", "%F0%9F%98%80"])
def test_odd_bytes_in_the_path_are_404(trader: Trader, path: str) -> None:
    assert code(trader.get(path)) == (404, -1000)


def test_parameter_that_nobody_reads_is_refused(trader: Trader) -> None:
    response = trader.order(type="MARKET", quantity="0.01", pegPriceType="PRIMARY_PEG")

    assert code(response) == (400, -1104)
    assert response.json()["msg"] == (
        "Not all sent parameters were read; read '6' parameter(s) but was sent '7'."
    )


def test_parameter_named_twice_is_refused(trader: Trader) -> None:
    url = f"{trader.url}/api/v3/klines?symbol=BTCUSDT&interval=1m&symbol=ETHUSDT"

    assert code(trader.http.get(url, timeout=30)) == (400, -1101)
