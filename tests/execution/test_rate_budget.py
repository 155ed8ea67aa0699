"""Execution takes from the shared rate budget, honours what the exchange says, and never goes unlimited."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from execution import services
from execution.adapters import rate_budget
from execution.adapters.rate_budget import OrderLimit, priority_of, weight_of
from execution.contracts import NotSent, OrderStatus, QueryFailed
from market.adapters import weight
from market.adapters.binance_rest import MarketClient
from market.adapters.weight import Priority, WeightLimit
from market.contracts import ExchangeUnavailable
from tests.desk import SYMBOL, Desk
from tradingbot.core import clock
from tradingbot.core.models import Alert

URL, KEY = "http://exchange.test/api", "a fake key"


@pytest.fixture
def standing(redis_server: redis.Redis, now: datetime) -> Iterator[datetime]:
    """A standing clock, four seconds before the end of ten."""
    moment = now + timedelta(seconds=6)
    clock.set_source(lambda: moment)
    yield moment
    clock.set_source(None)


@pytest.mark.parametrize(
    ("method", "path", "data", "expected"),
    [
        ("get", "order", {}, 4), ("get", "openOrders", {"symbol": SYMBOL}, 6), ("get", "openOrders", {}, 80),
        ("get", "myTrades", {"orderId": 1}, 5), ("get", "myTrades", {}, 20), ("get", "unheardOf", {}, 40),
        ("post", "order", {}, 1), ("delete", "order", {}, 1), ("post", "order/test", {}, 1),
    ],
)  # fmt: skip
def test_request_is_charged_with_its_weight(
    method: str, path: str, data: dict[str, Any], expected: int
) -> None:
    assert weight_of(method, path, data) == expected


@pytest.mark.parametrize(
    ("method", "path", "data", "expected"),
    [
        ("get", "order", {}, Priority.QUERY),
        ("delete", "order", {}, Priority.CANCEL),
        ("post", "order", {"side": "BUY"}, Priority.ENTRY),
        ("post", "order", {"side": "SELL"}, Priority.CANCEL),
        ("post", "orderList/otoco", {"workingSide": "BUY"}, Priority.ENTRY),
        ("post", "orderList/oco", {"side": "SELL"}, Priority.CANCEL),
    ],
)  # fmt: skip
def test_entries_give_way_to_queries_and_these_to_cancels_and_exits(
    method: str, path: str, data: dict[str, Any], expected: Priority
) -> None:
    assert priority_of(method, path, data) == expected
    assert Priority.ENTRY.value < Priority.QUERY.value < Priority.CANCEL.value


def test_entries_leave_a_reserve_of_orders_for_exits(standing: datetime) -> None:
    one, other = OrderLimit(URL, KEY), OrderLimit(URL, KEY)

    assert one.take(40, entry=True) == 0
    assert other.take(1, entry=True) == 4
    assert other.take(10, entry=False) == 0
    assert one.take(1, entry=False) == 4


def test_accounts_count_their_orders_apart(standing: datetime) -> None:
    OrderLimit(URL, KEY).take(40, entry=True)

    assert OrderLimit(URL, "another key").take(40, entry=True) == 0


def test_ten_seconds_later_orders_may_be_sent_again(standing: datetime) -> None:
    limit = OrderLimit(URL, KEY)
    limit.take(40, entry=True)

    clock.set_source(lambda: standing + timedelta(seconds=4))

    assert limit.take(40, entry=True) == 0


def test_exchanges_own_count_of_orders_is_believed_when_it_is_higher(standing: datetime) -> None:
    limit = OrderLimit(URL, KEY)
    limit.learn({"X-MBX-ORDER-COUNT-10S": "39", "X-MBX-ORDER-COUNT-1D": "nonsense"})
    limit.learn({"X-MBX-ORDER-COUNT-10S": "3"})

    assert limit.take(2, entry=True) == 4
    assert limit.take(1, entry=True) == 0


def test_day_that_is_used_up_waits_for_the_next(standing: datetime) -> None:
    limit = OrderLimit(URL, KEY)
    limit.learn({"X-MBX-ORDER-COUNT-1D": "160000"})

    assert limit.take(1, entry=False) > 3600


# --- the limits that exchangeInfo states ------------------------------------------------------------------


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Callable[..., None]:
    """Let market read an exchangeInfo of URL with these `rateLimits` of orders."""
    settings.EXCHANGE = dataclasses.replace(settings.EXCHANGE, rest_url=URL)
    client = MarketClient()

    def read(*limits: tuple[str, int, Any]) -> None:
        entries = [
            {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": count, "limit": limit}
            for interval, count, limit in limits
        ]
        monkeypatch.setattr(client, "_read", lambda path, **_: {"symbols": [], "rateLimits": entries})
        client.fetch_instruments((SYMBOL,))

    return read


def test_smaller_limit_that_the_exchange_states_is_kept_to_with_its_reserve(
    standing: datetime, states: Callable[..., None]
) -> None:
    states(("SECOND", 10, 10), ("DAY", 1, 160_000))
    limit = OrderLimit(URL, KEY)

    assert limit.take(8, entry=True) == 0
    assert limit.take(1, entry=True) == 4
    assert limit.take(2, entry=False) == 0
    assert limit.take(1, entry=False) == 4


def test_smaller_limit_of_a_day_waits_for_the_next(standing: datetime, states: Callable[..., None]) -> None:
    states(("SECOND", 10, 100), ("DAY", 1, 10))
    limit = OrderLimit(URL, KEY)

    assert limit.take(8, entry=True) == 0
    assert limit.take(1, entry=True) > 3600
    assert limit.take(2, entry=False) == 0


def test_larger_limit_that_the_exchange_states_may_be_used(
    standing: datetime, states: Callable[..., None]
) -> None:
    states(("SECOND", 10, 100), ("DAY", 1, 200_000))

    assert OrderLimit(URL, KEY).take(80, entry=True) == 0


@pytest.mark.parametrize("unreadable", [(), (("SECOND", 10, "many"),), (("SECOND", 10, 0),)], ids=str)
@pytest.mark.parametrize(("stated_before", "strictest"), [(100, 50), (10, 10), (None, 50)])
def test_unreadable_limit_leaves_the_strictest_that_is_known(
    standing: datetime,
    states: Callable[..., None],
    unreadable: Any,
    stated_before: int | None,
    strictest: int,
) -> None:
    if stated_before:
        states(("SECOND", 10, stated_before), ("DAY", 1, 160_000))

    states(*unreadable)

    assert OrderLimit(URL, KEY).take(strictest, entry=False) == 0
    assert OrderLimit(URL, KEY).take(1, entry=False) == 4


@pytest.mark.parametrize(("stated_before", "strictest"), [(100, 50), (10, 10)])
def test_limit_that_redis_lost_leaves_the_strictest_that_the_process_knows(
    standing: datetime,
    states: Callable[..., None],
    redis_server: redis.Redis,
    stated_before: int,
    strictest: int,
) -> None:
    states(("SECOND", 10, stated_before), ("DAY", 1, 160_000))
    limit = OrderLimit(URL, KEY)
    limit.take(1, entry=False)

    redis_server.flushdb()

    assert limit.take(strictest, entry=False) == 0
    assert limit.take(1, entry=False) == 4


def test_exchanges_own_count_is_believed_under_the_limit_that_it_states(
    standing: datetime, states: Callable[..., None]
) -> None:
    states(("SECOND", 10, 10), ("DAY", 1, 160_000))
    limit = OrderLimit(URL, KEY)

    limit.learn({"X-MBX-ORDER-COUNT-10S": "7"})

    assert limit.take(2, entry=True) == 4
    assert limit.take(1, entry=True) == 0


def test_without_redis_a_process_sends_a_small_share(
    standing: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr(weight, "_redis", fail)
    limit = OrderLimit(URL, KEY)

    assert limit.take(4, entry=True) == 0
    assert limit.take(1, entry=True) == 4
    assert limit.take(1, entry=False) == 4
    limit.hold(30)
    clock.set_source(lambda: standing + timedelta(seconds=10))
    assert limit.take(1, entry=False) > 10


# --- through the gateway, against the simulator -----------------------------------------------------------


@pytest.mark.django_db
def test_order_that_the_budget_refuses_is_never_sent_and_said_to_the_operator(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))
    WeightLimit(desk.exchange.url).hold(30)

    status = services.send_order(order_id=order.pk, now=clock.now())

    order.refresh_from_db()
    assert (status, order.reserved_quote) == (OrderStatus.NOT_PLACED, 0)
    assert "POST order was never sent" in order.reason
    assert desk.exchange.orders() == []
    assert Alert.objects.filter(kind="order_not_placed", severity="high").exists()


@pytest.mark.django_db
def test_orders_used_up_stop_entries_and_not_queries(desk: Desk) -> None:
    order = desk.claim(desk.assess(desk.propose()))
    gateway = services.gateway()
    gateway._client._orders.hold(30)

    assert services.send_order(order_id=order.pk, now=clock.now()) == OrderStatus.NOT_PLACED
    assert gateway.open_orders(symbol=SYMBOL) == []


@pytest.mark.django_db
@pytest.mark.parametrize("status", [429, 418])
def test_being_told_to_wait_holds_every_worker(desk: Desk, status: int) -> None:
    desk.exchange.arm(
        kind="status",
        method="GET",
        path="/api/v3/openOrders",
        status=status,
        code=-1003,
        phase="before",
        count=1,
    )

    run = desk.reconcile()

    assert run.status == "degraded"
    with pytest.raises(QueryFailed, match="was never sent"):
        services.gateway().balances()
    with pytest.raises(NotSent, match="was never sent"):
        services.gateway().cancel_foreign_order(symbol=SYMBOL, exchange_order_id=1)
    with pytest.raises(ExchangeUnavailable, match="was not sent"):
        MarketClient().fetch_server_time_ms()


@pytest.mark.django_db
def test_too_many_orders_is_a_refusal_that_holds_new_orders_only(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=429, code=-1015, phase="before", count=1
    )

    order = desk.buy()

    assert order.status == OrderStatus.REJECTED
    gateway = services.gateway()
    assert gateway._client._orders.take(1, entry=False) > 0
    assert gateway.open_orders(symbol=SYMBOL) == []


@pytest.mark.django_db
def test_answers_teach_what_the_exchange_counted(desk: Desk, redis_server: redis.Redis) -> None:
    desk.buy()

    counted = {
        key.decode().rpartition(":")[0]: int(redis_server.get(key)) for key in redis_server.keys("*:orders:*")
    }
    used = int(services.gateway()._client.response.headers["X-MBX-USED-WEIGHT-1M"])
    keys = redis_server.keys(f"*:weight:{desk.exchange.url.split('//')[1]}:[0-9]*")

    assert set(counted.values()) == {1}
    assert max(int(redis_server.get(key)) for key in keys) >= used > 0


@pytest.mark.django_db
def test_without_redis_orders_still_go_out_within_the_share(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr(weight, "_redis", fail)
    gateway = services.gateway()
    gateway._client._orders._alone.clear()

    assert desk.buy().status == OrderStatus.CONFIRMED
    monkeypatch.setattr(rate_budget, "ALONE_SHARE", 0.0)
    desk.refresh_feeds()
    assert desk.buy(symbol="ETHUSDT").status == OrderStatus.NOT_PLACED
