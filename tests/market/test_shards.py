"""The symbols in shards: who streams what, and how each of them does."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import models, rules, selectors, services
from market.contracts import Fence, Shard, Stream, StreamStatus
from tests.market.builders import MINUTE, kline_frame, walk
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually
from tradingbot.core import clock, leases
from tradingbot.core.models import Lease

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@given(st.lists(st.text("ABC", min_size=1), unique=True, max_size=40), st.integers(1, 10_000))
def test_every_symbol_is_in_exactly_one_shard_that_a_connection_can_carry(
    symbols: list[str], per_shard: int
) -> None:
    shards = rules.split_in_shards(symbols, per_shard)

    assert [s for shard in shards for s in shard.symbols] == symbols
    assert len({shard.name for shard in shards}) == len(shards)
    for shard in shards:
        assert 0 < len(shard.symbols) <= per_shard
        assert len(rules.stream_names(shard.symbols)) <= 1024


def test_few_symbols_are_one_shard_named_market() -> None:
    assert rules.split_in_shards(SYMBOLS, 100) == (Shard("market", SYMBOLS),)


def test_no_setting_makes_a_shard_larger_than_a_connection_carries() -> None:
    shards = rules.split_in_shards([f"S{n}" for n in range(700)], 10_000)

    assert [(shard.name, len(shard.symbols)) for shard in shards] == [
        ("market", 341),
        ("market-2", 341),
        ("market-3", 18),
    ]


@pytest.mark.django_db
def test_each_shard_has_to_be_well(now: datetime, settings: Any) -> None:
    settings.SYMBOLS, settings.SYMBOLS_PER_SHARD = SYMBOLS, 2
    fence = leases.acquire("streams:test", holder="us", seconds=30)
    assert fence is not None
    for name in ("market", "account"):
        status = StreamStatus(name, connected=True, last_message_at=now, resynced_at=now)
        services.record_status(statuses=[status], now=now, fence=Fence("streams:test", fence))

    assert selectors.stream_names() == ["market", "market-2", "account"]
    assert selectors.stale_feeds(now) == ("market-2: never started",)


@pytest.mark.django_db
def test_a_takeover_ends_the_sessions_of_its_own_shard_and_of_shards_that_are_gone(
    now: datetime, settings: Any
) -> None:
    settings.SYMBOLS, settings.SYMBOLS_PER_SHARD = SYMBOLS, 2
    for stream in ("market", "market-2", "market-3", "account"):
        models.FeedSession.objects.create(environment="simulator", stream=stream, connected_at=now)
    number = leases.acquire("streams:test", holder="us", seconds=30)
    assert number is not None

    services.close_open_sessions(stream="market-2", now=now + MINUTE, fence=Fence("streams:test", number))

    open_ones = models.FeedSession.objects.filter(ended_at=None).values_list("stream", flat=True)
    assert set(open_ones) == {"market", "account"}


def test_each_shard_has_a_connection_and_a_lease_of_its_own(
    exchange: ScriptedExchange, settings: Any
) -> None:
    settings.SYMBOLS, settings.SYMBOLS_PER_SHARD = SYMBOLS, 2
    for symbol in SYMBOLS[1:]:
        exchange.candles[symbol] = walk(400, symbol=symbol)
    running = RunningStreams()
    try:
        eventually(lambda: not selectors.stale_feeds(clock.now()))
        names = sorted(Lease.objects.values_list("name", flat=True))
        subscribed = sorted(len(message["params"]) for message in exchange.subscriptions)
        closed = [exchange.append(symbol=symbol)[0] for symbol in SYMBOLS]
        exchange.send_market(*(kline_frame(candle) for candle in closed))
        for candle in closed:
            eventually(lambda c=candle: selectors.last_closed(c.symbol, c.interval) == c)
    finally:
        running.stop()

    assert names == [f"streams:simulator:{name}" for name in ("account", "market", "market-2")]
    assert subscribed == [3, 6]
    ended = models.FeedSession.objects.values_list("stream", "end_reason")
    assert sorted(ended) == [(name, "stopped") for name in (Stream.ACCOUNT, "market", "market-2")]
