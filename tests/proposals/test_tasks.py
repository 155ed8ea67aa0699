"""The tasks on real Redis: a doorbell per due decision, and nothing lost by running them twice."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import redis

from market.models import Candle
from proposals import tasks
from proposals.models import Decision, Proposal, Strategy
from tests.proposals.conftest import SYMBOL, no_trade
from tests.proposals.model_server import Server, echoes
from tradingbot.core import clock
from tradingbot.settings import CACHE_PREFIX

Market = Callable[..., Candle]


@pytest.fixture(autouse=True)
def _clock(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_source", lambda: now)


def test_due_decisions_ring_the_advisor_once_each_with_ids_only(
    strategy: Strategy, market: Market, redis_server: redis.Redis
) -> None:
    market(symbol="ETHUSDT")
    strategy.symbols = [SYMBOL, "ETHUSDT", "SOLUSDT"]
    strategy.save()

    assert tasks.advise_due() == 2

    queued = redis_server.lrange(f"{CACHE_PREFIX}:celery:advisor", 0, -1)
    headers = [json.loads(message)["headers"] for message in queued]
    assert {h["task"] for h in headers} == {"proposals.tasks.advise_one"}
    assert all(h["expires"] for h in headers)
    assert {h["kwargsrepr"] for h in headers} == {
        repr({"strategy_id": strategy.pk, "symbol": symbol}) for symbol in (SYMBOL, "ETHUSDT")
    }


def test_advise_one_twice_decides_once(strategy: Strategy, market: Market, model_server: Server) -> None:
    model_server.scripts = [echoes(no_trade)]

    for _ in range(2):
        tasks.advise_one(strategy_id=strategy.pk, symbol=SYMBOL)

    assert (Decision.objects.count(), len(model_server.requests)) == (1, 1)


def test_advise_one_of_a_strategy_switched_off_meanwhile_does_nothing(
    strategy: Strategy, market: Market, model_server: Server
) -> None:
    Strategy.objects.update(enabled=False)

    tasks.advise_one(strategy_id=strategy.pk, symbol=SYMBOL)

    assert Decision.objects.count() == 0


def test_expire_overdue_uses_the_clock(proposed: Callable[..., Proposal], now: datetime) -> None:
    proposed(expires_at=now - timedelta(seconds=1))

    assert [tasks.expire_overdue(), tasks.expire_overdue()] == [1, 0]
