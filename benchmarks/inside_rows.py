"""Rows that benchmarks make by themselves, inside a stack."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from proposals.models import Decision, Proposal, Strategy

ACTOR = "benchmark"


def make_proposal(symbol: str, mid: Decimal, quote_amount: str, now: datetime) -> Proposal:
    """A BUY at market as the advisor leaves it, stop and target around `mid`."""
    stated = {
        "schema_version": "1",
        "symbol": symbol,
        "action": "BUY",
        "order_type": "MARKET",
        "time_in_force": None,
        "limit_price": None,
        "stop_price": f"{mid * Decimal('0.98'):.2f}",
        "target_price": f"{mid * Decimal('1.05'):.2f}",
        "quote_amount": quote_amount,
        "position_share_pct": None,
        "confidence_pct": 70,
        "valid_for_seconds": 300,
    }
    decision = Decision.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        strategy=Strategy.objects.get_or_create(name=ACTOR, defaults={"symbols": [], "enabled": False})[0],
        symbol=symbol,
        candle_open_time=now,
        prompt_version="v1",
        outcome="OK",
        started_at=now,
        finished_at=now,
    )
    return Proposal.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        decision=decision,
        symbol=symbol,
        action="BUY",
        answer=stated,
        reasons="A benchmark buys.",
        confidence_pct=70,
        created_at=now,
        expires_at=now + timedelta(seconds=300),
    )
