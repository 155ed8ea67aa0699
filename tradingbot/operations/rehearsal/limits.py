"""Risk limits as wide as their bounds allow, so that as many orders as possible go out.

For runs that judge the way of an order, not the judgement on it. The collar stays as installed, for it is the
worst price that a market order is judged by; the threshold of approvals is each run's own.
"""

from decimal import Decimal

WIDE = {
    "order_notional_max_quote": Decimal(10000),
    "symbol_exposure_max_pct": Decimal(100),
    "gross_exposure_max_pct": Decimal(100),
    "open_positions_max": 100,
    "open_orders_max": 200,
    "daily_loss_max_pct": Decimal(20),
    "drawdown_max_pct": Decimal(30),
    "loss_streak_max": 100,
    "loss_streak_pause_seconds": 0,
    "cool_down_seconds": 0,
    "volatility_max_pct": Decimal(20),
    "spread_max_bps": Decimal(1000),
    "price_drift_max_pct": Decimal(10),
    "orders_per_minute_max": 300,
    "orders_per_hour_max": 3600,
    "confidence_min_pct": 0,
    "reward_to_risk_min": Decimal(0),
    "risk_per_trade_max_pct": Decimal(100),
}
