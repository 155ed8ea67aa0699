"""`python -m benchmarks.gate_inside`: the gate over a fresh database with 50 positions; one line of JSON."""

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

BASES = ["BTC", *(f"C{number:02d}" for number in range(1, 50))]
PRICE = Decimal(60000)
ROUNDS = 200
WARM_UP = 10
os.environ["SYMBOLS"] = ",".join(f"{base}USDT" for base in BASES)

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.db import transaction  # noqa: E402

from benchmarks.execution_inside import exchange_info  # noqa: E402
from execution import selectors  # noqa: E402
from execution.models import Account, AccountBalance, Position, ReconciliationRun  # noqa: E402
from market import services as market  # noqa: E402
from market.contracts import Candle, Interval, Quote  # noqa: E402
from market.models import FeedState, Instrument  # noqa: E402
from proposals.models import Decision, Proposal, Strategy  # noqa: E402
from risk import rules  # noqa: E402
from risk import selectors as risk_selectors  # noqa: E402
from risk import services as risk  # noqa: E402
from risk.contracts import GateInput, TradingState  # noqa: E402
from risk.models import Autonomy  # noqa: E402
from risk.services import gate  # noqa: E402
from tradingbot.core import audit, clock  # noqa: E402

ENVIRONMENT = settings.TRADING_ENVIRONMENT
ANSWER = {
    "order_type": "MARKET", "time_in_force": None, "limit_price": None, "stop_price": "58800.00",
    "target_price": "63000.00", "quote_amount": "30", "position_share_pct": None,
}  # fmt: skip


def fill() -> None:
    """50 symbols, each with a position; limits wide enough that every rule passes; the switch armed."""
    now = clock.now()
    for base in BASES:
        symbol = f"{base}USDT"
        Instrument.objects.create(
            environment=ENVIRONMENT, symbol=symbol, base_asset=base, quote_asset="USDT", status="TRADING",
            raw=exchange_info(symbol), refreshed_at=now,
        )  # fmt: skip
        AccountBalance.objects.create(
            environment=ENVIRONMENT, asset=base, free=Decimal("0.01"), locked=0, as_of=now
        )
        Position.objects.create(
            environment=ENVIRONMENT, symbol=symbol, base_asset=base, quote_asset="USDT", updated_at=now,
            quantity=Decimal("0.01"), cost_quote=PRICE / 100, fees_quote=0, realised_pnl_quote=0,
        )  # fmt: skip
    AccountBalance.objects.create(
        environment=ENVIRONMENT, asset="USDT", free=Decimal(100_000), locked=0, as_of=now
    )
    Account.objects.create(
        environment=ENVIRONMENT, clock_offset_ms=1, clock_measured_at=now + timedelta(hours=1)
    )
    values = {name: getattr(risk_selectors.limits_history()[0], name) for name in rules.LIMIT_NAMES} | {
        "allowed_symbols": ["BTCUSDT"],
        "gross_exposure_max_pct": Decimal(100),
        "open_positions_max": 100,
    }
    risk.save_limits(values=values, actor="benchmark", confirmed_by="second", reason="benchmark", now=now)
    risk.set_trading_state(state=TradingState.ACTIVE, actor="benchmark", reason="benchmark", now=now)


def freshen() -> None:
    """What streams, reconciliation and watches write all the time."""
    now = clock.now()
    market.record_quotes(
        quotes=[
            Quote(f"{base}USDT", PRICE, PRICE + Decimal("0.01"), Decimal(1), Decimal(1), now)
            for base in BASES
        ]
    )
    minute = now.replace(second=0, microsecond=0)
    opened = [minute - timedelta(minutes=ago) for ago in range(1, 6)]
    market.upsert_candles(candles=[_calm(at) for at in opened], now=now)
    for stream in ("market", "account"):
        FeedState.objects.update_or_create(
            environment=ENVIRONMENT,
            stream=stream,
            defaults={"connected": True, "last_message_at": now, "resynced_at": now, "updated_at": now},
        )
    ReconciliationRun.objects.all().delete()
    ReconciliationRun.objects.create(
        environment=ENVIRONMENT, trigger="poll", status="clean", started_at=now, finished_at=now
    )
    Autonomy.objects.update_or_create(environment=ENVIRONMENT, defaults={"status": "auto", "seen_at": now})


def _calm(opened: datetime) -> Candle:
    closed = opened + timedelta(milliseconds=59_999)
    return Candle(
        "BTCUSDT", Interval.M1, opened, closed, PRICE, PRICE, PRICE, PRICE, Decimal(1), PRICE, 1
    )  # fmt: skip


def propose(number: int) -> Proposal:
    """A small BUY as the advisor leaves it."""
    now = clock.now()
    strategy, _ = Strategy.objects.get_or_create(name="benchmark", defaults={"symbols": [], "enabled": False})
    decision = Decision.objects.create(
        environment=ENVIRONMENT, strategy=strategy, symbol="BTCUSDT", prompt_version="v1", started_at=now,
        candle_open_time=now - timedelta(minutes=number), finished_at=now, outcome="OK",
    )  # fmt: skip
    return Proposal.objects.create(
        environment=ENVIRONMENT, decision=decision, symbol="BTCUSDT", action="BUY", answer=ANSWER,
        confidence_pct=70, created_at=now, expires_at=now + timedelta(minutes=5),
    )  # fmt: skip


def judged(number: int) -> tuple[float, str]:
    """Milliseconds of the whole advisory run as the worker does it, and what became of the proposal."""
    proposal = propose(number)
    began = time.perf_counter()
    books = selectors.portfolio(now=clock.now(), excluding=proposal.pk)
    risk.assess_proposal(proposal_id=proposal.pk, portfolio=books, now=clock.now())
    took = (time.perf_counter() - began) * 1000
    proposal.refresh_from_db()
    outcome = f"{proposal.status} {proposal.refusal}".strip()
    # Out of the way of the next one, which would else be the same idea again.
    Proposal.objects.filter(pk=proposal.pk).update(status="expired")
    return took, outcome


def bare(number: int) -> float:
    """Milliseconds of one transaction that locks a proposal, writes it and one audit row, and commits."""
    proposal = propose(number)
    began = time.perf_counter()
    with transaction.atomic():
        Proposal.objects.select_for_update().get(pk=proposal.pk)
        Proposal.objects.filter(pk=proposal.pk).update(status="expired")
        audit.record(action="benchmark", subject="benchmark", actor="benchmark", now=clock.now())
    return (time.perf_counter() - began) * 1000


def timed(act: Callable[[], Any]) -> float:
    """Milliseconds that `act` took."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def gate_input() -> GateInput:
    """The input of one advisory run with all its 50 positions."""
    proposal = propose(100_000)
    books = selectors.portfolio(now=clock.now(), excluding=proposal.pk)
    return gate._gather(proposal, books, clock.now(), binding=False, **gate._wishes(proposal))


def main() -> None:
    """Fill, warm up, measure the three in turn, print."""
    fill()
    freshen()
    seen = gate_input()
    whole, pure, one_transaction, as_json = [], [], [], []
    outcomes: dict[str, int] = {}
    for number in range(ROUNDS + WARM_UP):
        freshen()
        took, outcome = judged(2 * number)
        baseline = bare(2 * number + 1)
        rules_ms = timed(lambda: rules.evaluate(seen))
        json_ms = timed(lambda: audit.sha256_hex(audit.canonical_json(gate._plain_data(seen))))
        if number < WARM_UP:
            continue
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        whole.append(took)
        one_transaction.append(baseline)
        pure.append(rules_ms)
        as_json.append(json_ms)
    if any("auto_approved" not in outcome for outcome in outcomes):
        sys.exit(f"not every proposal passed every rule: {outcomes}")
    print(
        json.dumps(
            {
                "positions": len(seen.portfolio.holdings),
                "rules": len(rules.RULES),
                "whole": whole,
                "transaction": one_transaction,
                "pure": pure,
                "json": as_json,
            }
        )
    )


if __name__ == "__main__":
    main()
