"""Limits, switch and proposals as rows; the market is told by monkeypatching its selectors."""

import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from market import selectors as market_selectors
from market.contracts import UnknownInstrument
from proposals.models import Decision, Proposal, Strategy
from risk.contracts import AutonomyLevel, TradingState
from risk.models import Autonomy, RiskLimits, TradingControl
from tests.conftest import NOW
from tests.risk.passing import FILTERS, LIMITS, QUOTE, RANGE

ANSWER = {
    "order_type": "LIMIT",
    "time_in_force": "GTC",
    "limit_price": "25000.00",
    "stop_price": "24500.00",
    "target_price": "26500.00",
    "quote_amount": "200",
    "position_share_pct": None,
}


@pytest.fixture(autouse=True)
def market(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live market with one symbol."""

    def filters(symbol: str) -> Any:
        if symbol != FILTERS.symbol:
            raise UnknownInstrument(symbol)
        return FILTERS

    monkeypatch.setattr(market_selectors, "latest_quote", lambda symbol: replace(QUOTE, symbol=symbol))
    monkeypatch.setattr(market_selectors, "symbol_filters", filters)
    monkeypatch.setattr(market_selectors, "recent_range", lambda symbol, minutes: RANGE)
    monkeypatch.setattr(market_selectors, "stale_feeds", lambda now: ())


@pytest.fixture
def limits(db: None) -> RiskLimits:
    """The passing limits in force; written anew because transactional tests empty the tables."""
    RiskLimits.objects.filter(environment=settings.TRADING_ENVIRONMENT).delete()
    values = asdict(LIMITS) | {"allowed_symbols": list(LIMITS.allowed_symbols)}
    return RiskLimits.objects.create(
        environment=settings.TRADING_ENVIRONMENT, created_at=NOW, created_by="test", reason="test", **values
    )


@pytest.fixture
def control(db: None) -> TradingControl:
    """The switch, armed."""
    TradingControl.objects.filter(pk=settings.TRADING_ENVIRONMENT).delete()
    Autonomy.objects.update_or_create(
        environment=settings.TRADING_ENVIRONMENT, defaults={"status": AutonomyLevel.AUTO, "seen_at": NOW}
    )
    return TradingControl.objects.create(
        environment=settings.TRADING_ENVIRONMENT, status=TradingState.ACTIVE, version=3
    )


@pytest.fixture
def propose(limits: RiskLimits, control: TradingControl) -> Callable[..., Proposal]:
    """Make a proposal as the advisor leaves it; `answer` replaces parts of the model's answer."""

    def make(*, answer: dict[str, Any] | None = None, **changes: Any) -> Proposal:
        strategy, _ = Strategy.objects.get_or_create(name="test strategy")
        number = Decision.objects.count()
        decision = Decision.objects.create(
            environment=settings.TRADING_ENVIRONMENT,
            strategy=strategy,
            symbol="BTCUSDT",
            candle_open_time=NOW - timedelta(minutes=number),
            prompt_version="v1",
            started_at=NOW,
        )
        values = {
            "id": uuid.uuid4(),
            "environment": settings.TRADING_ENVIRONMENT,
            "decision": decision,
            "symbol": "BTCUSDT",
            "action": "BUY",
            "answer": ANSWER | (answer or {}),
            "confidence_pct": 70,
            "created_at": NOW,
            "expires_at": NOW + timedelta(minutes=5),
        }
        return Proposal.objects.create(**values | changes)

    return make
