"""One input of the gate that every rule passes; tests change one thing of it."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from market.contracts import PriceRange, Quote, SymbolFilters
from proposals.contracts import OrderType, QuantisedOrder, Side, TimeInForce
from risk import rules
from risk.contracts import (
    AutonomyLevel,
    GateInput,
    Holding,
    Limits,
    Portfolio,
    SeenAutonomy,
    TradingState,
)
from tests.conftest import NOW

LIMITS = Limits(
    version=7,
    allowed_symbols=("BTCUSDT", "ETHUSDT"),
    approval_threshold_quote=Decimal("50"),
    order_notional_max_quote=Decimal("250"),
    symbol_exposure_max_pct=Decimal("15"),
    gross_exposure_max_pct=Decimal("30"),
    open_positions_max=5,
    open_orders_max=10,
    daily_loss_max_pct=Decimal("2"),
    spread_max_bps=Decimal("25"),
    price_collar_pct=Decimal("0.5"),
    price_drift_max_pct=Decimal("0.5"),
    quote_age_max_seconds=Decimal("5"),
    orders_per_minute_max=20,
    orders_per_hour_max=300,
    confidence_min_pct=50,
    reward_to_risk_min=Decimal("1"),
    risk_per_trade_max_pct=Decimal("1"),
    fee_rate=Decimal("0.001"),
    approval_ttl_seconds=300,
    auto_ttl_seconds=30,
    two_person_threshold_quote=Decimal("1000"),
    volatility_max_pct=Decimal("3"),
    drawdown_max_pct=Decimal("4"),
    loss_streak_max=3,
    loss_streak_pause_seconds=3600,
    cool_down_seconds=900,
)
FILTERS = SymbolFilters(
    symbol="BTCUSDT",
    base_asset="BTC",
    quote_asset="USDT",
    status="TRADING",
    price_tick=Decimal("0.01"),
    price_min=Decimal("0.01"),
    price_max=Decimal("1000000"),
    quantity_step=Decimal("0.00001"),
    quantity_min=Decimal("0.00001"),
    quantity_max=Decimal("9000"),
    market_quantity_step=Decimal("0"),
    market_quantity_min=Decimal("0"),
    market_quantity_max=Decimal("100"),
    notional_min=Decimal("5"),
    notional_min_applies_to_market=True,
    notional_max=Decimal("9000000"),
    notional_max_applies_to_market=False,
    bid_multiplier_up=Decimal("2"),
    bid_multiplier_down=Decimal("0.5"),
    ask_multiplier_up=Decimal("2"),
    ask_multiplier_down=Decimal("0.5"),
    open_orders_max=200,
    algo_orders_max=5,
    position_max=Decimal("0"),
    order_types=("LIMIT", "MARKET"),
    oco_allowed=True,
    oto_allowed=True,
    opo_allowed=True,
    stp_modes=("EXPIRE_TAKER",),
)
QUOTE = Quote(
    symbol="BTCUSDT",
    bid=Decimal("24999.50"),
    ask=Decimal("25000.50"),
    bid_quantity=Decimal("1"),
    ask_quantity=Decimal("1"),
    received_at=NOW - timedelta(seconds=1),
)
RANGE = PriceRange(
    low=Decimal("24900"), high=Decimal("25100"), minutes=5, received_at=NOW - timedelta(seconds=40)
)
AUTONOMY = SeenAutonomy(AutonomyLevel.AUTO, "", NOW - timedelta(seconds=2))
PORTFOLIO = Portfolio(
    quote_asset="USDT",
    free_quote=Decimal("9000"),
    free_base={"BTCUSDT": Decimal("0.02"), "ETHUSDT": Decimal("0.5")},
    equity_quote=Decimal("10000"),
    holdings={
        "BTCUSDT": Holding("BTCUSDT", Decimal("0.01"), Decimal("24000"), Decimal("24999.50")),
        "ETHUSDT": Holding("ETHUSDT", Decimal("0.3"), Decimal("1600"), Decimal("1650")),
    },
    reserved_quote={"ETHUSDT": Decimal("100")},
    reserved_base={},
    open_order_count=1,
    open_order_count_by_symbol={"ETHUSDT": 1},
    unresolved_order_count=0,
    realised_today_quote=Decimal("-20"),
    unrealised_quote=Decimal("10"),
    carried_gain_quote=Decimal(0),
    orders_last_minute=1,
    orders_last_hour=10,
    pending_by_symbol={"ETHUSDT": ["BUY"]},
    blocked_symbols={},
    reconciled=True,
    reconciliation_note="reconciled 12 s ago",
    clock_offset_ms=-20,
    equity_peak_quote=Decimal("10100"),
    loss_streak=2,
    last_loss_at=NOW - timedelta(minutes=20),
    last_loss_by_symbol={
        "BTCUSDT": NOW - timedelta(minutes=20),
        "ETHUSDT": NOW - timedelta(minutes=1),
    },
)
BUY = GateInput(
    now=NOW,
    binding=False,
    trading_enabled=True,
    trading_state=TradingState.ACTIVE,
    stage_allows=True,
    limits=LIMITS,
    portfolio=PORTFOLIO,
    filters=FILTERS,
    quote=QUOTE,
    recent_range=RANGE,
    feeds_stale=(),
    autonomy=AUTONOMY,
    proposal_id="00000000-0000-4000-8000-000000000001",
    symbol="BTCUSDT",
    action="BUY",
    order_type="LIMIT",
    time_in_force="GTC",
    quote_amount=Decimal("200"),
    position_share_pct=None,
    limit_price=Decimal("25000.00"),
    stop_price=Decimal("24500.00"),
    target_price=Decimal("26500.00"),
    confidence_pct=70,
)
SELL = replace(
    BUY,
    action="SELL",
    quote_amount=None,
    position_share_pct=100,
    limit_price=Decimal("25000.00"),
    stop_price=None,
    target_price=None,
)


def market_order(gate: GateInput) -> GateInput:
    """`gate` as a MARKET order."""
    return replace(gate, order_type="MARKET", time_in_force="", limit_price=None)


def binding(gate: GateInput, **changes: Any) -> GateInput:
    """The binding run for the order that `gate` comes to, approved by a person; `changes` apply to the order about
    to be sent."""
    order = rules.evaluate(gate).order
    assert order is not None
    return replace(
        gate, binding=True, order=order.model_copy(update=changes), approved_order=order, approvals=1
    )


def order_of(**changes: Any) -> QuantisedOrder:
    """The order that BUY comes to, with `changes`."""
    values = {
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": Decimal("0.008"),
        "price": Decimal("25000"),
        "stop_price": Decimal("24500"),
        "target_price": Decimal("26500"),
        "reference_price": Decimal("25000"),
        "worst_price": Decimal("25000"),
        "notional_quote": Decimal("200"),
        "fee_quote": Decimal("0.2"),
    }
    return QuantisedOrder(**values | changes)
