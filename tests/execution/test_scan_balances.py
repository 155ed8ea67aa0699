"""The last proof of an absence: a balance that other orders may have moved proves nothing yet."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from execution.contracts import Balance, QueryFailed
from execution.models import Account
from execution.services.saga import _balance_finding
from market.models import AccountEvent, Instrument
from tradingbot.core import clock

pytestmark = pytest.mark.django_db
ORDER: Any = SimpleNamespace(pk=uuid4(), environment="simulator", symbol="BTCUSDT")
EXCHANGE: Any = SimpleNamespace(balances=lambda: [Balance("USDT", Decimal(9900), Decimal(0))])


@pytest.fixture(autouse=True)
def books() -> None:
    """10,000 USDT by our books, 9,900 by the exchange's."""
    Account.objects.update_or_create(environment="simulator", defaults={"baseline": {"USDT": "10000"}})
    Instrument.objects.create(
        environment="simulator",
        symbol="BTCUSDT",
        base_asset="BTC",
        quote_asset="USDT",
        status="TRADING",
        raw={},
        refreshed_at=clock.now(),
    )


def test_difference_of_balance_is_a_finding_when_nothing_else_is_under_way() -> None:
    assert "USDT differs by -100" in _balance_finding(ORDER, EXCHANGE)


def test_difference_of_balance_is_not_judged_while_an_event_waits_to_be_folded() -> None:
    AccountEvent.objects.create(
        environment="simulator",
        event_type="executionReport",
        event_time=clock.now(),
        received_at=clock.now(),
        payload={},
        sha256="0" * 64,
    )

    with pytest.raises(QueryFailed, match="in flight"):
        _balance_finding(ORDER, EXCHANGE)
