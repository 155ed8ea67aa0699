"""One simulator for all strangers; each opens an account of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.server import VenueSettings, make_app
from tests.simulator.conftest import Served, Trader


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A generated market at four market seconds a second, so that candles and trades come quickly."""
    server = Served(make_app(VenueSettings(seed=7, speed=4)))
    yield server
    server.close()


@pytest.fixture
def trader(served: Served) -> Trader:
    return Trader(served.url, {"USDT": "100000", "BTC": "1"})
