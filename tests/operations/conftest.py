"""A product in which all parts are well; tests spoil one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from execution import selectors as execution_selectors
from market import selectors as market_selectors
from market.contracts import FeedHealth, UnknownInstrument
from tests.conftest import NOW
from tests.operations.push_service import Sink, running_sink
from tradingbot.core import clock, heartbeats
from tradingbot.operations import delivery, selectors

WELL = [
    FeedHealth("market", connected=True, age_seconds=0.5, stale=False),
    FeedHealth("account", connected=True, age_seconds=3.0, stale=False),
]


@pytest.fixture
def parts(db: None, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`feeds`, `reconciled_at` and `instruments` can be set; the queues' heartbeats are rows."""
    state = SimpleNamespace(feeds=list(WELL), reconciled_at=NOW - timedelta(seconds=30), instruments=True)

    def filters(symbol: str) -> Any:
        if not state.instruments:
            raise UnknownInstrument(symbol)
        return object()

    def run() -> Any:
        return state.reconciled_at and SimpleNamespace(finished_at=state.reconciled_at)

    monkeypatch.setattr(market_selectors, "feed_health", lambda now: state.feeds)
    monkeypatch.setattr(market_selectors, "symbol_filters", filters)
    monkeypatch.setattr(execution_selectors, "last_completed_run", run)
    for queue in selectors.QUEUES:
        heartbeats.beat(f"queue:{queue}", now=NOW)
    return state


@pytest.fixture
def own_files(tmp_path: Path, settings: Any) -> Path:
    settings.ALERT_SECRETS_DIR = tmp_path / "alert-channels"
    settings.PUBLIC_URL = "https://desk.example"
    return settings.ALERT_SECRETS_DIR


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as server:
        yield server


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the worker's sweep at an instant of the test's choosing."""

    def sweep(seconds: float = 0) -> int:
        now = NOW + timedelta(seconds=seconds)
        monkeypatch.setattr(clock, "now", lambda: now)
        return delivery.run(now=now)

    return sweep
