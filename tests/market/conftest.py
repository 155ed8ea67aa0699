"""Fixtures of the stream tests."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from market import selectors
from tests.environment import KEYS
from tests.market.scripted import RunningStreams, ScriptedExchange, eventually
from tradingbot.core import clock
from tradingbot.core.environments import Environment, endpoints


@pytest.fixture
def exchange(settings: Any, redis_server: redis.Redis, transactional_db: None) -> Iterator[ScriptedExchange]:
    """A scripted exchange that the settings point at, with one symbol and a fake key."""
    scripted = ScriptedExchange()
    settings.EXCHANGE = endpoints(Environment.SIMULATOR, simulator_url=scripted.url)
    settings.SYMBOLS = ("BTCUSDT",)
    (KEYS / "key").write_text("fake-key-of-the-scripted-exchange")
    (KEYS / "secret").write_text("fake-secret-of-the-scripted-exchange")
    yield scripted
    scripted.close()


@pytest.fixture
def streams(exchange: ScriptedExchange, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningStreams]:
    """The streams, connected to the scripted exchange and caught up."""
    monkeypatch.setattr("market.services.supervisor.REPORT_SECONDS", 0.1)  # sooner seen, sooner done
    running = RunningStreams()
    try:
        eventually(lambda: not selectors.stale_feeds(clock.now()), "both feeds are well")
        yield running
    finally:
        running.stop()
    assert running.failure is None
