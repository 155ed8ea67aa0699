"""Order lists, cancelReplace and what they count, over REST and the WS API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.simulator.conftest import Served, Trader, code
from tests.simulator.test_streams import ask, signed_params, talk


def price(trader: Trader, factor: float) -> str:
    return f"{trader.last_price() * factor:.2f}"


def oco(trader: Trader, **more: Any) -> Any:
    values = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "quantity": "0.01",
        "aboveType": "LIMIT_MAKER",
        "abovePrice": price(trader, 1.1),
        "belowType": "STOP_LOSS",
        "belowStopPrice": price(trader, 0.9),
    }
    return trader.signed(
        "POST", "orderList/oco", **{k: v for k, v in (values | more).items() if v is not None}
    )


def test_oco_answers_the_list_with_its_reports(trader: Trader) -> None:
    placed = oco(
        trader, listClientOrderId="my-list", aboveClientOrderId="up", belowClientOrderId="down"
    ).json()

    assert (placed["contingencyType"], placed["listStatusType"], placed["listOrderStatus"]) == (
        "OCO",
        "EXEC_STARTED",
        "EXECUTING",
    )
    assert placed["listClientOrderId"] == "my-list"
    above, below = placed["orderReports"]
    assert (above["clientOrderId"], below["clientOrderId"]) == ("up", "down")
    assert below["stopPrice"].endswith("000000") and below["workingTime"] == -1
    assert {report["orderListId"] for report in placed["orderReports"]} == {placed["orderListId"]}


def test_list_is_found_listed_and_canceled(trader: Trader) -> None:
    placed = oco(trader, listClientOrderId="find-me").json()
    list_id = placed["orderListId"]

    found = trader.signed("GET", "orderList", origClientOrderId="find-me").json()
    opened = trader.signed("GET", "openOrderList").json()
    canceled = trader.signed("DELETE", "orderList", symbol="BTCUSDT", orderListId=list_id).json()

    assert found["orderListId"] == opened[0]["orderListId"] == list_id
    assert canceled["listOrderStatus"] == "ALL_DONE"
    assert [report["status"] for report in canceled["orderReports"]] == ["CANCELED", "CANCELED"]
    assert trader.signed("GET", "openOrderList").json() == []
    assert trader.signed("GET", "allOrderList").json()[0]["listStatusType"] == "ALL_DONE"
    assert code(trader.signed("DELETE", "orderList", symbol="BTCUSDT", orderListId=list_id)) == (400, -2011)
    assert code(trader.signed("GET", "orderList", orderListId=10**9)) == (400, -2013)


def test_cancel_of_one_leg_and_of_all_orders_cancels_the_list(trader: Trader) -> None:
    first = oco(trader).json()["orders"][0]["orderId"]
    by_leg = trader.signed("DELETE", "order", symbol="BTCUSDT", orderId=first).json()
    oco(trader)
    by_all = trader.signed("DELETE", "openOrders", symbol="BTCUSDT").json()

    assert by_leg["listOrderStatus"] == by_all[0]["listOrderStatus"] == "ALL_DONE"
    assert len(by_all) == 1 and len(by_all[0]["orderReports"]) == 2
    assert trader.signed("GET", "openOrders", symbol="BTCUSDT").json() == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"belowType": "LIMIT_MAKER", "belowStopPrice": None, "belowPrice": "1"}, -1168),
        ({"side": "BUY"}, -1165),
        ({"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "1"}, -1197),
        ({"belowType": "TAKE_PROFIT"}, -1199),
        ({"side": "BUY", "belowType": "STOP_LOSS"}, -1165),
        ({"aboveType": "MARKET", "abovePrice": None}, -1158),
        ({"abovePegPriceType": "PRIMARY_PEG"}, -1104),
        ({"belowPrice": "1"}, -1106),
        ({"belowStopPrice": None}, -1102),
        ({"aboveTimeInForce": "GTC"}, -1106),
        ({"listClientOrderId": "no spaces"}, -1100),
        ({"quantity": None}, -1102),
    ],
)
def test_bad_oco_is_refused_with_its_code(trader: Trader, more: dict[str, Any], expected: int) -> None:
    assert code(oco(trader, **more)) == (400, expected)


def test_opoco_needs_no_quantity_and_counts_three(trader: Trader) -> None:
    values = {
        "symbol": "BTCUSDT", "workingType": "LIMIT", "workingSide": "BUY", "workingTimeInForce": "GTC",
        "workingQuantity": "0.01", "workingPrice": price(trader, 0.95), "pendingSide": "SELL",
        "pendingAboveType": "LIMIT_MAKER", "pendingAbovePrice": price(trader, 1.1),
        "pendingBelowType": "STOP_LOSS", "pendingBelowStopPrice": price(trader, 0.9),
    }  # fmt: skip

    placed = trader.signed("POST", "orderList/opoco", **values)
    counted = placed.headers["X-MBX-ORDER-COUNT-1D"]

    assert placed.json()["contingencyType"] == "OTO"
    assert [report["status"] for report in placed.json()["orderReports"]] == [
        "NEW",
        "PENDING_NEW",
        "PENDING_NEW",
    ]
    assert counted == "3"
    assert code(trader.signed("POST", "orderList/opoco", **values, pendingQuantity="1")) == (400, -1104)


def test_otoco_filled_at_once_protects_the_position(trader: Trader) -> None:
    placed = trader.signed(
        "POST", "orderList/otoco", symbol="BTCUSDT", workingType="LIMIT", workingSide="BUY",
        workingTimeInForce="GTC", workingQuantity="0.01", workingPrice=price(trader, 1.01), pendingSide="SELL",
        pendingQuantity="0.01", pendingAboveType="TAKE_PROFIT_LIMIT", pendingAboveStopPrice=price(trader, 1.1),
        pendingAbovePrice=price(trader, 1.1), pendingAboveTimeInForce="GTC",
        pendingBelowType="STOP_LOSS_LIMIT", pendingBelowStopPrice=price(trader, 0.9),
        pendingBelowPrice=price(trader, 0.89), pendingBelowTimeInForce="GTC",
    ).json()  # fmt: skip

    assert [report["status"] for report in placed["orderReports"]] == ["FILLED", "PENDING_NEW", "PENDING_NEW"]
    opened = trader.signed("GET", "openOrders", symbol="BTCUSDT").json()
    assert [(order["type"], order["status"], order["isWorking"]) for order in opened] == [
        ("TAKE_PROFIT_LIMIT", "NEW", False),
        ("STOP_LOSS_LIMIT", "NEW", False),
    ]


def test_events_of_an_oco_name_the_list(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        await ask(socket, "userDataStream.subscribe.signature", **signed_params(trader))
        placed = oco(trader).json()
        return placed, [json.loads(await socket.recv())["event"] for _ in range(4)]

    placed, events = talk(f"{served.url}/ws-api/v3", session)

    status = events[0]
    assert (status["e"], status["c"], status["l"], status["L"]) == (
        "listStatus",
        "OCO",
        "EXEC_STARTED",
        "EXECUTING",
    )
    assert [leg["i"] for leg in status["O"]] == [leg["orderId"] for leg in placed["orders"]]
    loss = next(event for event in events[1:3] if event["o"] == "STOP_LOSS")
    assert (loss["g"], loss["w"], loss["X"]) == (placed["orderListId"], False, "NEW")
    assert "W" not in loss and loss["P"] != "0.00000000"


def replace(trader: Trader, **more: Any) -> Any:
    values = {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01",
        "price": price(trader, 0.9), "cancelReplaceMode": "STOP_ON_FAILURE",
    }  # fmt: skip
    return trader.signed("POST", "order/cancelReplace", **(values | more))


def test_cancel_replace_does_both(trader: Trader) -> None:
    first = trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=price(trader, 0.8)).json()

    done = replace(trader, cancelOrderId=first["orderId"], newClientOrderId="second").json()

    assert (done["cancelResult"], done["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert done["cancelResponse"]["origClientOrderId"] == first["clientOrderId"]
    assert done["newOrderResponse"]["clientOrderId"] == "second"


@pytest.mark.parametrize(
    ("more", "status", "expected", "results"),
    [
        ({"cancelOrderId": 999_999}, 400, -2022, ("FAILURE", "NOT_ATTEMPTED")),
        (
            {"cancelOrderId": 999_999, "cancelReplaceMode": "ALLOW_FAILURE"},
            409,
            -2021,
            ("FAILURE", "SUCCESS"),
        ),
        (
            {"cancelOrderId": 999_999, "cancelReplaceMode": "ALLOW_FAILURE", "quantity": "50"},
            400,
            -2022,
            ("FAILURE", "FAILURE"),
        ),
    ],
)
def test_cancel_replace_says_which_part_failed(
    trader: Trader, more: dict[str, Any], status: int, expected: int, results: tuple[str, str]
) -> None:
    failed = replace(trader, **more)

    assert code(failed) == (status, expected)
    data = failed.json()["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == results
    assert data["cancelResponse"]["code"] == -2011


def test_filters_of_the_replacement_are_checked_before_the_cancel(trader: Trader) -> None:
    first = trader.order(type="LIMIT", timeInForce="GTC", quantity="0.01", price=price(trader, 0.8)).json()

    refused = replace(trader, cancelOrderId=first["orderId"], quantity="0.0000001")

    assert code(refused) == (400, -1013)
    assert trader.signed("GET", "openOrders", symbol="BTCUSDT").json()[0]["orderId"] == first["orderId"]


def test_ws_api_places_and_cancels_lists(served: Served, trader: Trader) -> None:
    async def session(socket: ClientConnection) -> Any:
        params = {
            "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER",
            "abovePrice": price(trader, 1.1), "belowType": "STOP_LOSS", "belowStopPrice": price(trader, 0.9),
        }  # fmt: skip
        placed = await ask(socket, "orderList.place.oco", **signed_params(trader, **params))
        list_id = placed["result"]["orderListId"]
        params = signed_params(trader, symbol="BTCUSDT", orderListId=list_id)
        return placed, await ask(socket, "orderList.cancel", 2, **params)

    placed, canceled = talk(f"{served.url}/ws-api/v3", session)

    assert placed["status"] == canceled["status"] == 200
    assert canceled["result"]["listOrderStatus"] == "ALL_DONE"


def test_my_filters_and_exchange_info_say_what_binds(trader: Trader) -> None:
    mine = trader.signed("GET", "myFilters", symbol="BTCUSDT").json()
    info = trader.get("exchangeInfo", symbol="BTCUSDT").json()["symbols"][0]

    assert set(mine) == {"exchangeFilters", "symbolFilters", "assetFilters"}
    assert mine["symbolFilters"] == info["filters"]
    kinds = {entry["filterType"]: entry for entry in info["filters"]}
    assert kinds["MAX_NUM_ALGO_ORDERS"]["maxNumAlgoOrders"] == 5
    assert kinds["MAX_NUM_ORDER_LISTS"]["maxNumOrderLists"] == 20
    assert info["ocoAllowed"] and info["otoAllowed"] and info["opoAllowed"] and info["allowTrailingStop"]


def test_commission_in_bnb_can_be_switched_on(trader: Trader) -> None:
    switched = trader.http.post(
        f"{trader.url}/sim/bnb", json={"apiKey": trader.api_key, "bnbBurn": True}, timeout=30
    )
    trader.http.post(
        f"{trader.url}/sim/deposit",
        json={"apiKey": trader.api_key, "asset": "BNB", "amount": "1"},
        timeout=30,
    )

    fills = trader.order(type="MARKET", quantity="0.01").json()["fills"]
    rates = trader.signed("GET", "account/commission", symbol="BTCUSDT").json()

    assert switched.json() == {"bnbBurn": True}
    assert {fill["commissionAsset"] for fill in fills} == {"BNB"}
    assert rates["discount"]["enabledForAccount"] is True
