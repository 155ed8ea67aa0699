"""Rows for the pages to show, written directly: every state that an operator may meet, small and fixed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import Group, User

from execution.contracts import DivergenceKind, OrderStatus
from execution.models import (
    Account,
    AccountBalance,
    Divergence,
    ExecutionIntent,
    Fill,
    Order,
    OrderLifecycleEvent,
    Position,
    Probe,
    ReconciliationRun,
)
from market import services as market
from market.contracts import Candle, Interval
from market.models import FeedState, Instrument, Quote, Snapshot
from proposals.models import Decision, Proposal, Strategy
from risk.models import Autonomy, RiskLimits, TradingControl
from tradingbot.core import clock
from tradingbot.core.models import Alert
from tradingbot.operations.roles import ensure_roles

ENVIRONMENT = settings.TRADING_ENVIRONMENT.value
DIGEST = "d" * 64
HASH = "0123456789abcdef" * 4
REASONS = (
    "The fast average crossed above the slow one on rising volume, and the spread is narrow.\n"
    "Volatility is moderate, so the stop lies 1.2 % below; the target is 2.4 % above."
)
RULES: list[dict[str, str]] = [
    {"name": "trading_control", "verdict": "hold", "observed": "HALTED", "limit": "ACTIVE", "unit": "",
     "reason": "the trading control is HALTED"},
    {"name": "order_notional", "verdict": "pass", "observed": "963.0951", "limit": "2500", "unit": "USDT",
     "reason": "the order is small enough"},
    {"name": "symbol_exposure", "verdict": "pass", "observed": "12.4", "limit": "15", "unit": "%",
     "reason": "all in BTCUSDT stays inside the share of equity"},
    {"name": "spread", "verdict": "pass", "observed": "1.6", "limit": "25", "unit": "bps",
     "reason": "the spread is narrow enough"},
    {"name": "stop_present", "verdict": "pass", "observed": "63430.1", "limit": "64205.5", "unit": "USDT",
     "reason": "the stop lies below the entry"},
]  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """What was seeded, by what it is for."""

    operator: User
    pending: Proposal
    refused: Proposal
    order: Order
    unknown: Order
    run: ReconciliationRun
    critical: Alert


PASSWORD = "not-a-secret"


def operator(name: str = "operator", *, password: str | None = None, **fields: Any) -> User:
    """An operator; hashing a password takes its time, so one is set only where it is typed."""
    return person(name, "operator", password=password, **fields)


def person(name: str, *roles: str, password: str | None = None, **fields: Any) -> User:
    """Somebody with these roles; the groups are made again, because transactional tests empty their tables."""
    user = User.objects.create_user(name, password=password, **fields)
    if not Group.objects.exists():
        ensure_roles()
    user.groups.set(Group.objects.filter(name__in=roles))
    return user


def arm(now: datetime) -> None:
    """Everything that trading needs: the switch on ACTIVE and both streams fresh."""
    TradingControl.objects.filter(pk=ENVIRONMENT).update(
        status="ACTIVE", changed_at=now, changed_by="risk", reason="rehearsal passed"
    )
    feeds(now)


def healthy(now: datetime) -> None:
    """Every check of the parts' health green, as the watch would have left it."""
    Autonomy.objects.update_or_create(
        environment=ENVIRONMENT,
        defaults={"status": "auto", "wanted": "auto", "checks": [], "reason": "", "seen_at": now},
    )


def feeds(now: datetime) -> None:
    """Fresh streams and quotes, and all else well."""
    healthy(now)
    for stream in ("market", "account"):
        FeedState.objects.update_or_create(
            environment=ENVIRONMENT,
            stream=stream,
            defaults={
                "connected": True, "last_message_at": now, "resynced_at": now, "updated_at": now,
            },
        )  # fmt: skip
    for symbol, bid, ask in (("BTCUSDT", "64205.1", "64205.9"), ("ETHUSDT", "3102.55", "3102.61")):
        quote(symbol, bid, ask, now)
        calm_minutes(symbol, Decimal(bid), min(now, clock.now()))  # a candle from the future would be denied


def calm_minutes(symbol: str, price: Decimal, now: datetime) -> None:
    """The last closed minutes of a symbol, without any movement."""
    minute = now.replace(second=0, microsecond=0)
    candles = [
        Candle(symbol, Interval.M1, opened, opened + timedelta(milliseconds=59_999), price, price, price, price,
               Decimal(1), price, 1)
        for opened in (minute - timedelta(minutes=ago) for ago in range(1, 6))
    ]  # fmt: skip
    market.upsert_candles(candles=candles, now=now)


def quote(symbol: str, bid: str, ask: str, now: datetime) -> None:
    """The last quote of a symbol, in Postgres."""
    Quote.objects.update_or_create(
        environment=ENVIRONMENT,
        symbol=symbol,
        defaults={
            "bid": Decimal(bid), "ask": Decimal(ask), "bid_quantity": Decimal("1.2"),
            "ask_quantity": Decimal("0.7"), "received_at": now,
        },
    )  # fmt: skip


def starting_rows(now: datetime) -> None:
    """What the migrations created: a transactional test before this one has emptied every table."""
    limits = import_module("risk.migrations.0002_starting_rows").STARTING_LIMITS
    TradingControl.objects.get_or_create(pk=ENVIRONMENT)
    RiskLimits.objects.get_or_create(
        environment=ENVIRONMENT,
        version=1,
        defaults={"created_at": now, "created_by": "installation", "reason": "Starting values", **limits},
    )


def exchange_info(base: str) -> dict[str, Any]:
    """What the exchange says of a symbol, cut down to what must be there."""
    return {
        "symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "quoteAsset": "USDT",
        "orderTypes": ["LIMIT", "MARKET"], "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
        ],
    }  # fmt: skip


def instruments(now: datetime) -> None:
    """The symbols with the assets they trade."""
    for base in ("BTC", "ETH", "SOL"):
        Instrument.objects.create(
            environment=ENVIRONMENT, symbol=f"{base}USDT", base_asset=base, quote_asset="USDT",
            status="TRADING", raw=exchange_info(base), refreshed_at=now,
        )  # fmt: skip


def decision(
    now: datetime, *, symbol: str = "BTCUSDT", outcome: str = "OK", shadow: bool = False
) -> Decision:
    """A finished call of the advisor."""
    strategy = Strategy.objects.order_by("pk").first() or Strategy.objects.create(name="seeded")
    snapshot = Snapshot.objects.create(
        environment=ENVIRONMENT, symbol=symbol, interval="1m", as_of=now, payload={}, sha256=HASH,
        indicator_version="v1", created_at=now,
    )  # fmt: skip
    return Decision.objects.create(
        environment=ENVIRONMENT, strategy=strategy, snapshot=snapshot, symbol=symbol, shadow=shadow,
        # one decision per candle: spread them over history, whatever whole minutes ago `now` is
        candle_open_time=now - timedelta(minutes=1, microseconds=1) * Decision.objects.count(),
        prompt_version="v1", request={"model": "rehearsal-1"}, request_sha256=HASH, response_text="{}",
        response_sha256=HASH, model_requested="rehearsal-1", model_answered="rehearsal-1",
        prompt_tokens=1840, completion_tokens=212, latency_ms=640, outcome=outcome, started_at=now,
        finished_at=now,
    )  # fmt: skip


def proposal(
    now: datetime, *, status: str = "pending_approval", symbol: str = "BTCUSDT", **fields: Any
) -> Proposal:
    """A proposal with a formed order (BUY 0.015 for at most 963.0951), in `status`."""
    limits = RiskLimits.objects.filter(environment=ENVIRONMENT).latest()
    reference = Decimal("64205.5") if symbol == "BTCUSDT" else Decimal("3102.58")
    values: dict[str, Any] = {
        "environment": ENVIRONMENT, "symbol": symbol, "action": "BUY", "status": status, "side": "BUY",
        "answer": {"facts": [{"id": "rsi_14", "value": "61.2"}, {"id": "ema_fast", "value": "64190.4"}]},
        "reasons": REASONS, "confidence_pct": 72, "created_at": now, "expires_at": now + timedelta(minutes=5),
        "order_type": "LIMIT", "time_in_force": "GTC", "quantity": Decimal("0.0150"),
        "price": Decimal("64206.34"), "stop_price": Decimal("63430.1"), "target_price": Decimal("65750.2"),
        "reference_price": reference, "worst_price": Decimal("64206.34"),
        "notional_quote": Decimal("963.0951"), "fee_quote": Decimal("0.9630951"),
        "limits_version": limits.version, "verdict": RULES, "digest": DIGEST, "validated_at": now,
    }  # fmt: skip
    values |= fields
    shadow = bool(values.get("shadow"))
    return Proposal.objects.create(decision=decision(now, symbol=symbol, shadow=shadow), **values)


def order(
    of: Proposal,
    now: datetime,
    *,
    status: str = OrderStatus.CONFIRMED,
    signed_at: datetime | None = None,
    **fields: Any,
) -> Order:
    """The order of an approved proposal; long ago signed, unless said otherwise."""
    timestamp_ms = int(signed_at.timestamp() * 1000) if signed_at else 1_772_452_800_123
    client_order_id = f"tb-{of.pk.hex[:24]}"
    intent = ExecutionIntent.objects.create(
        environment=ENVIRONMENT, proposal=of, client_order_id=client_order_id, symbol=of.symbol, side=of.side,
        order_type=of.order_type, time_in_force=of.time_in_force, quantity=of.quantity, price=of.price,
        stop_price=of.stop_price, target_price=of.target_price, digest=of.digest, limits_version=1,
        control_version=3, timestamp_ms=timestamp_ms, recv_window_ms=3000,
        created_at=now + timedelta(milliseconds=200),
    )  # fmt: skip
    values: dict[str, Any] = {
        "environment": ENVIRONMENT, "intent": intent, "symbol": of.symbol, "side": of.side,
        "client_order_id": client_order_id, "quantity": of.quantity, "price": of.price, "status": status,
        "created_at": now + timedelta(milliseconds=200), "sent_at": now + timedelta(milliseconds=230),
        "request_sha256": HASH,
    }  # fmt: skip
    return Order.objects.create(**(values | fields))


def filled_order(of: Proposal, now: datetime) -> Order:
    """An order that filled in two trades."""
    done = order(
        of, now, exchange_order_id=4_711_000 + Order.objects.count(), exchange_status="FILLED",
        executed_quantity=of.quantity, cumulative_quote=Decimal("962.95"),
        acknowledged_at=now + timedelta(milliseconds=310), closed_at=now + timedelta(milliseconds=1450),
        response_sha256=HASH,
    )  # fmt: skip
    for number, (quantity, after_ms) in enumerate((("0.0100", 900), ("0.0050", 1450))):
        at = now + timedelta(milliseconds=after_ms)
        size = Decimal(quantity)
        Fill.objects.create(
            environment=ENVIRONMENT, symbol=of.symbol, trade_id=done.exchange_order_id * 10 + number, order=done,
            exchange_order_id=done.exchange_order_id, side=of.side, price=Decimal("64196.5"), quantity=size,
            quote_quantity=size * Decimal("64196.5"), commission=size * Decimal("64.1965"),
            commission_asset="USDT", commission_quote=size * Decimal("64.1965"), is_maker=number == 0,
            at=at, recorded_at=at,
        )  # fmt: skip
        OrderLifecycleEvent.objects.create(
            environment=ENVIRONMENT, order=done, symbol=of.symbol, client_order_id=done.client_order_id,
            exchange_order_id=done.exchange_order_id, kind="partially_filled" if number == 0 else "filled",
            source="stream", event_key=f"{done.pk}:{number}", executed_quantity=size,
            exchange_status="PARTIALLY_FILLED" if number == 0 else "FILLED", at=at, recorded_at=at,
        )  # fmt: skip
    return done


def unknown_order(of: Proposal, now: datetime) -> Order:
    """An order whose fate is not known, with two questions asked."""
    lost = order(of, now, status=OrderStatus.UNKNOWN, unknown_since=now + timedelta(seconds=12),
                 reason="No answer within 12 s; it may or may not be on the books.")  # fmt: skip
    Probe.objects.create(order=lost, method="GET order", answer="failed", detail="read timed out", at=now)
    Probe.objects.create(order=lost, method="GET order", answer="absent", detail="-2013", at=now)
    return lost


def books(now: datetime) -> None:
    """Balances and a position."""
    Account.objects.get_or_create(environment=ENVIRONMENT)
    for asset, free in (("USDT", "9036.94"), ("BTC", "0.015")):
        AccountBalance.objects.create(
            environment=ENVIRONMENT, asset=asset, free=Decimal(free), locked=Decimal(0), as_of=now
        )
    Position.objects.create(
        environment=ENVIRONMENT, symbol="BTCUSDT", base_asset="BTC", quote_asset="USDT",
        quantity=Decimal("0.0150"), cost_quote=Decimal("963.91"), fees_quote=Decimal("0.9629"),
        realised_pnl_quote=Decimal("-0.9629"), stop_price=Decimal("63430.1"),
        target_price=Decimal("65750.2"), opened_at=now, updated_at=now,
    )  # fmt: skip
    Position.objects.create(
        environment=ENVIRONMENT, symbol="ETHUSDT", base_asset="ETH", quote_asset="USDT",
        realised_pnl_quote=Decimal("4.17"), fees_quote=Decimal("0.61"), updated_at=now,
    )  # fmt: skip


def reconciliation(now: datetime, *, divergent: bool = False) -> ReconciliationRun:
    """A finished run; with one open divergence if asked."""
    run = ReconciliationRun.objects.create(
        environment=ENVIRONMENT, trigger="schedule", status="divergent" if divergent else "clean",
        started_at=now - timedelta(seconds=2), finished_at=now, orders_compared=3, fills_compared=4,
        balances_compared=2, divergence_count=int(divergent),
    )  # fmt: skip
    if divergent:
        Divergence.objects.create(
            environment=ENVIRONMENT, kind=DivergenceKind.BALANCE, subject="USDT",
            ours={"total": "9036.94"}, theirs={"total": "9026.94"}, amount=Decimal("-10"),
            amount_asset="USDT", likely_cause="A withdrawal that the account stream did not report.",
            first_run=run, last_run=run, first_seen_at=now - timedelta(minutes=6), last_seen_at=now,
        )  # fmt: skip
    return run


def alert(
    now: datetime,
    *,
    severity: str = "critical",
    title: str = "An order is in an unknown state",
    **fields: Any,
) -> Alert:
    """An open alert."""
    values: dict[str, Any] = {
        "kind": "execution_unknown", "severity": severity, "title": title, "dedupe_key": uuid4().hex,
        "detail": "The exchange did not answer. It is being asked until it is certain.", "count": 3,
        "first_seen_at": now - timedelta(minutes=4), "last_seen_at": now,
    }  # fmt: skip
    return Alert.objects.create(**(values | fields))


def desk(now: datetime, *, armed: bool = True) -> Desk:
    """A desk in the middle of its day."""
    starting_rows(now)
    who = operator(is_staff=True, is_superuser=True)
    instruments(now)
    if armed:
        arm(now)
    else:
        feeds(now)
    books(now)
    ago = lambda seconds: now - timedelta(seconds=seconds)  # noqa: E731
    pending = proposal(ago(40), expires_at=now + timedelta(minutes=4))
    proposal(ago(100), symbol="ETHUSDT", expires_at=now + timedelta(seconds=55), quantity=Decimal("0.31"),
             notional_quote=Decimal("962.6"), price=Decimal("3103.1"), worst_price=Decimal("3103.1"),
             stop_price=Decimal("3060"), target_price=Decimal("3170"))  # fmt: skip
    refused = proposal(
        ago(200), status="risk_rejected", digest="", quantity=None, price=None, notional_quote=None,
        refusal="order_notional: the order is worth 4100, above the 2500 that one order may be",
        verdict=[RULES[0] | {"verdict": "deny"}, *RULES[1:]],
    )  # fmt: skip
    proposal(ago(260), status="no_trade", action="NO_TRADE", side="", quantity=None, price=None,
             notional_quote=None, digest="", verdict=[], answer={"reason": "NO_EDGE"})  # fmt: skip
    proposal(
        ago(300), status="rejected", decided_at=ago(280), decided_by="operator", decision_reason="price moved"
    )
    proposal(ago(900), status="expired", expires_at=ago(600))
    done = proposal(
        ago(600), status="approved", decided_at=ago(599.2), decided_by="operator", claimed_at=ago(599)
    )
    filled = filled_order(done, ago(599))
    automatic = proposal(ago(1200), status="auto_approved", claimed_at=ago(1199))
    filled_order(automatic, ago(1199.7))
    lost = unknown_order(
        proposal(ago(90), status="auto_approved", claimed_at=ago(89), symbol="ETHUSDT"), ago(89)
    )
    reconciliation(ago(75))
    run = reconciliation(ago(14), divergent=True)
    critical = alert(now, subject=f"order:{lost.pk}")
    alert(
        now, severity="high", kind="approval_waiting", title="A proposal waits for approval", detail="",
        count=1, subject=f"proposal:{pending.pk}",
    )  # fmt: skip
    alert(
        now, severity="info", kind="risk_rejected", title="The gate refused a proposal for BTCUSDT", count=12,
        acknowledged_at=now, acknowledged_by="operator", subject=f"proposal:{refused.pk}",
    )  # fmt: skip
    return Desk(
        operator=who, pending=pending, refused=refused, order=filled, unknown=lost, run=run, critical=critical
    )


def missing_id() -> UUID:
    """An id that no row has."""
    return uuid4()
