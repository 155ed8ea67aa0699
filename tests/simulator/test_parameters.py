"""Parameters: none is ignored, and those of the documentation do what it says."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from simulator.api.endpoints import REST
from tests.simulator.conftest import Served, Trader, code
from tests.simulator.test_streams import ask, signed_params, talk

HOUR_MS = 3_600_000
NEEDED = {
    "interval": "1m", "side": "BUY", "type": "MARKET", "cancelReplaceMode": "STOP_ON_FAILURE", "preventedMatchId": "1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_counts(served: Served) -> Iterator[None]:
    """These tests use more than a minute's weight of the server that all share."""
    yield
    served.call(served.venue.desk.limiter.forget)


@pytest.mark.parametrize(("method", "path"), sorted(REST))
def test_every_endpoint_refuses_a_parameter_that_it_does_not_read(
    trader: Trader, method: str, path: str
) -> None:
    reads = REST[(method, path)].reads
    known = {name: value for name, value in (NEEDED | {"symbol": "BTCUSDT"}).items() if name in reads}
    sent = known | {"nobodyReadsThis": "1"}

    send = trader.signed if REST[(method, path)].signed else lambda m, p, **v: trader.get(p, **v)
    response = send(method, path, **sent)

    assert code(response) in ((400, -1104), (400, -1101))
    number = str(response.url).count("=")
    assert response.json()["msg"].endswith((f"but was sent '{number}'.", f"received '{number}'."))


def test_ws_api_refuses_a_parameter_that_a_method_does_not_read(served: Served, trader: Trader) -> None:
    async def session(socket: Any) -> list[int]:
        replies = [
            await ask(socket, "ticker.price", 1, symbol="BTCUSDT", other=1),
            await ask(socket, "account.status", 2, **signed_params(trader, symbol="BTCUSDT")),
            await ask(socket, "time", 3, symbol="BTCUSDT", timestamp=1),
            await ask(socket, "session.status", 4, verbose=True),
            await ask(socket, "userDataStream.subscribe.signature", 5, **signed_params(trader, events="all")),
        ]
        return [reply["error"]["code"] for reply in replies]

    assert talk(f"{served.url}/ws-api/v3", session) == [-1104, -1104, -1101, -1104, -1104]


@pytest.mark.parametrize(
    ("path", "params", "expected"),
    [
        ("ticker/24hr", {"symbol": "BTCUSDT", "type": "TINY"}, -1139),
        ("ticker/price", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ("ticker/price", {"symbol": "BTCUSDT", "symbolStatus": "HALT"}, -1220),
        ("depth", {"symbol": "BTCUSDT", "symbolStatus": "BREAK"}, -1220),
        ("depth", {"symbol": "BTCUSDT", "symbolStatus": "ASLEEP"}, -1122),
        ("exchangeInfo", {"symbol": "BTCUSDT", "permissions": "SPOT"}, -1128),
        ("klines", {"symbol": "BTCUSDT", "interval": "1d", "timeZone": "14:01"}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1d", "timeZone": "-12:01"}, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": "9" * 20}, -1108),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "1"}, -1128),
    ],
)
def test_bad_parameter_of_market_data_is_refused(
    trader: Trader, path: str, params: dict[str, str], expected: int
) -> None:
    assert code(trader.get(path, **params)) == (400, expected)


def test_no_symbol_has_execution_rules_or_a_reference_price(trader: Trader) -> None:
    assert trader.get("executionRules", symbol="BTCUSDT").json() == {"symbolRules": []}
    assert code(trader.get("executionRules", symbol="BTCUSDT", symbolStatus="TRADING")) == (400, -1128)
    assert code(trader.get("referencePrice", symbol="BTCUSDT")) == (400, -2043)


def test_permissions_and_status_choose_symbols(trader: Trader) -> None:
    def symbols(**params: str) -> list[str]:
        return [row["symbol"] for row in trader.get("exchangeInfo", **params).json()["symbols"]]

    everything = symbols()
    assert everything == symbols(permissions="SPOT") == symbols(symbolStatus="TRADING")
    assert symbols(permissions='["MARGIN","LEVERAGED"]') == symbols(symbolStatus="HALT") == []
    bare = trader.get("exchangeInfo", symbol="BTCUSDT", showPermissionSets="false").json()["symbols"][0]
    assert bare["permissionSets"] == []


@pytest.mark.parametrize(("zone", "hours"), [("8", 8), ("-3:00", -3), ("05:45", 5.75), ("0", 0)])
def test_time_zone_moves_the_boundaries_of_candles(trader: Trader, zone: str, hours: float) -> None:
    rows = trader.get("klines", symbol="BTCUSDT", interval="1d", timeZone=zone).json()

    day_ms = 24 * HOUR_MS
    assert all((row[0] + hours * HOUR_MS) % day_ms == 0 and row[6] == row[0] + day_ms - 1 for row in rows)
    minutes = trader.get(
        "klines", symbol="BTCUSDT", interval="1m", startTime=rows[-2][0], endTime=rows[-2][6], limit=1
    ).json()
    assert minutes[0][1] == rows[-2][1]


def test_times_may_be_sent_in_microseconds(trader: Trader) -> None:
    last = trader.get("klines", symbol="BTCUSDT", interval="1m", limit=5).json()
    span = {"startTime": last[0][0] * 1000, "endTime": last[2][0] * 1000 + 999}

    rows = trader.get("klines", symbol="BTCUSDT", interval="1m", **span).json()

    assert [row[0] for row in rows] == [row[0] for row in last[:3]]


@pytest.mark.parametrize(("path", "name"), [("historicalTrades", "id"), ("aggTrades", "a")])
def test_old_trades_can_be_paged_without_a_gap(trader: Trader, path: str, name: str) -> None:
    hour = trader.get("klines", symbol="BTCUSDT", interval="1h", limit=3).json()[0]
    first = trader.get("aggTrades", symbol="BTCUSDT", startTime=hour[0], limit=1).json()[0]["a"]

    ids: list[int] = []
    for _ in range(3):
        after = ids[-1] + 1 if ids else first
        ids += [row[name] for row in trader.get(path, symbol="BTCUSDT", fromId=after, limit=700).json()]

    assert ids == list(range(first, first + 2_100))


def test_aggregate_trades_of_a_minute_make_its_candle(trader: Trader) -> None:
    minute = trader.get("klines", symbol="BTCUSDT", interval="1m", limit=200).json()[0]

    trades = trader.get("aggTrades", symbol="BTCUSDT", startTime=minute[0], endTime=minute[6]).json()

    prices = [float(trade["p"]) for trade in trades]
    assert len(trades) == minute[8]
    assert [prices[0], max(prices), min(prices), prices[-1]] == [float(text) for text in minute[1:5]]
    assert all(a["T"] <= b["T"] for a, b in pairwise(trades))
    last = trader.get("aggTrades", symbol="BTCUSDT", endTime=minute[6], limit=1).json()
    assert last == trades[-1:]


def test_cancel_only_cancels_although_the_order_count_is_used_up(served: Served, trader: Trader) -> None:
    price = f"{trader.last_price() * 0.9:.2f}"
    order = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.001",
        "price": price,
    }
    resting = trader.signed("POST", "order", **order).json()["orderId"]
    use_up(served, trader)
    more = order | {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": resting}

    refused = trader.signed("POST", "order/cancelReplace", **more)
    use_up(served, trader)
    canceled = trader.signed("POST", "order/cancelReplace", **more, orderRateLimitExceededMode="CANCEL_ONLY")

    assert code(refused) == (429, -1015)
    assert code(canceled) == (429, -2021)
    assert int(canceled.headers["Retry-After"]) > 0
    parts = canceled.json()["data"]
    assert (parts["cancelResult"], parts["newOrderResponse"]["code"]) == ("SUCCESS", -1015)


def use_up(served: Served, trader: Trader) -> None:
    """Bring the count of the day to its end: that of ten seconds starts again too often."""
    limiter, now_ms = served.venue.desk.limiter, served.venue.now_ms()
    served.call(lambda: limiter.add_orders(trader.keys["uid"], 200_000, now_ms))
