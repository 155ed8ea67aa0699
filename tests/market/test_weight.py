"""The request weight that all processes share."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis

from market import rules
from market.adapters import weight
from market.adapters.binance_rest import MarketClient
from market.adapters.weight import WEIGHT_PER_MINUTE, Priority, WeightLimit
from tradingbot.core import clock


@pytest.fixture
def address(redis_server: redis.Redis, now: datetime) -> Iterator[str]:
    """An address that nobody else counts, at a standing clock twenty seconds before a full minute."""
    clock.set_source(lambda: now + timedelta(seconds=40))
    yield f"http://{uuid4().hex}/api"
    clock.set_source(None)


def test_public_reads_leave_a_reserve_for_queries_and_these_for_cancels(address: str) -> None:
    limit = WeightLimit(address)
    public = int(WEIGHT_PER_MINUTE * Priority.PUBLIC.value)

    assert limit.take(public, Priority.PUBLIC) == 0
    assert limit.take(1, Priority.PUBLIC) == 20
    assert limit.take(WEIGHT_PER_MINUTE // 4, Priority.QUERY) == 0
    assert limit.take(1, Priority.QUERY) == 20
    assert limit.take(1, Priority.CANCEL) == 0


def test_two_processes_share_one_count(address: str) -> None:
    one, other = WeightLimit(address), WeightLimit(address)
    one.take(3000, Priority.PUBLIC)

    assert other.take(601, Priority.PUBLIC) > 0
    assert other.take(600, Priority.PUBLIC) == 0


def test_a_new_minute_begins_at_nothing(address: str, now: datetime) -> None:
    limit = WeightLimit(address)
    limit.take(3600, Priority.PUBLIC)

    clock.set_source(lambda: now + timedelta(seconds=60))

    assert limit.take(3600, Priority.PUBLIC) == 0


def test_a_hold_stops_every_process_and_every_kind(address: str) -> None:
    WeightLimit(address).hold(30)

    assert 29 < WeightLimit(address).take(1, Priority.CANCEL) <= 30


def test_the_exchanges_own_count_is_believed_when_it_is_higher(address: str) -> None:
    limit = WeightLimit(address)
    limit.learn("3500")
    limit.learn("12")
    limit.learn("nonsense")

    assert limit.take(101, Priority.PUBLIC) > 0
    assert limit.take(100, Priority.PUBLIC) == 0


def test_without_redis_a_process_keeps_to_a_small_share(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise redis.ConnectionError("no Redis")

    monkeypatch.setattr(weight, "_redis", fail)
    limit = WeightLimit(address)

    assert limit.take(360, Priority.PUBLIC) == 0
    assert limit.take(1, Priority.PUBLIC) == 20
    assert limit.take(1, Priority.CANCEL) == 0
    limit.hold(30)
    assert limit.take(1, Priority.CANCEL) > 29


def test_every_process_keeps_to_the_limit_that_the_exchange_states(address: str) -> None:
    other = WeightLimit(address)

    WeightLimit(address).learn_limit(1000)

    assert other.take(601, Priority.PUBLIC) > 0
    assert other.take(600, Priority.PUBLIC) == 0
    assert other.take(401, Priority.CANCEL) > 0


@pytest.mark.parametrize("stated", [None, 0, -5, "6000", 6000.0, True, 10**9], ids=repr)
def test_a_limit_that_is_nonsense_changes_nothing(address: str, stated: Any) -> None:
    limit = WeightLimit(address)

    limit.learn_limit(stated)

    assert limit.take(3600, Priority.PUBLIC) == 0
    assert limit.take(1, Priority.PUBLIC) > 0


@pytest.mark.parametrize(
    ("rate_limits", "per_minute"),
    [
        ([{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}], 6000),
        ([{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 5, "limit": 6000}], 1200),
        ([{"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50}], None),
        ([7, {"rateLimitType": "REQUEST_WEIGHT"}], None),
        (None, None),
    ],
)
def test_the_limit_is_read_from_exchange_info(rate_limits: Any, per_minute: int | None) -> None:
    assert rules.weight_per_minute(rate_limits) == per_minute


@pytest.mark.parametrize(
    ("stated", "per_10_seconds", "per_day"),
    [
        ([("SECOND", 10, 100), ("DAY", 1, 200_000)], 100, 200_000),
        ([("SECOND", 1, 20), ("DAY", 1, 200_000)], 20, 200_000),
        ([("SECOND", 10, 100), ("MINUTE", 1, 300), ("DAY", 2, 200_000)], 50, 100_000),
        ([("SECOND", 10, 100)], 100, None),
        ([("SECOND", 10, "100"), ("DAY", 1, 200_000)], None, None),
        ([("SECOND", 10, 100), ("FORTNIGHT", 1, 7)], None, None),
        ([("SECOND", 0, 100)], None, None),
        ([("SECOND", 10, 0), ("DAY", 1, 10**9)], None, None),
        ([], None, None),
    ],
)
def test_order_limits_are_read_from_exchange_info(
    stated: list[tuple[str, int, Any]], per_10_seconds: int | None, per_day: int | None
) -> None:
    entries: list[Any] = [
        {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": count, "limit": limit}
        for interval, count, limit in stated
    ]

    found = rules.order_limits([7, {"rateLimitType": "REQUEST_WEIGHT", "limit": 1}, *entries])

    assert (found.per_10_seconds, found.per_day) == (per_10_seconds, per_day)


def test_reading_the_instruments_teaches_the_limit(
    address: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MarketClient()
    client._limit = WeightLimit(address)
    stated = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 100}]
    monkeypatch.setattr(client, "_read", lambda path, **_: {"symbols": [], "rateLimits": stated})

    client.fetch_instruments(("BTCUSDT",))

    assert WeightLimit(address).take(61, Priority.PUBLIC) > 0
