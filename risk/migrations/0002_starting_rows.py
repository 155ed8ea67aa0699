"""A migration-created start: each environment is HALTED, with small limits that a risk manager then sets."""

from decimal import Decimal

from django.db import migrations
from django.utils.timezone import now  # noqa: TID251 - a migration has no caller to take the time from

ENVIRONMENTS = ["simulator", "testnet", "demo", "live"]
STARTING_LIMITS = {
    "allowed_symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"],
    "approval_threshold_quote": Decimal("50"),
    "order_notional_max_quote": Decimal("250"),
    "symbol_exposure_max_pct": Decimal("15"),
    "gross_exposure_max_pct": Decimal("30"),
    "open_positions_max": 5,
    "open_orders_max": 10,
    "daily_loss_max_pct": Decimal("2"),
    "spread_max_bps": Decimal("25"),
    "price_collar_pct": Decimal("0.5"),
    "price_drift_max_pct": Decimal("0.5"),
    "quote_age_max_seconds": Decimal("5"),
    "orders_per_minute_max": 20,
    "orders_per_hour_max": 300,
    "confidence_min_pct": 50,
    "reward_to_risk_min": Decimal("1"),
    "risk_per_trade_max_pct": Decimal("1"),
    "fee_rate": Decimal("0.001"),
    "approval_ttl_seconds": 300,
    "auto_ttl_seconds": 30,
}


def create(apps, schema_editor):
    limits = apps.get_model("risk", "RiskLimits")
    control = apps.get_model("risk", "TradingControl")
    for environment in ENVIRONMENTS:
        control.objects.create(environment=environment, status="HALTED")
        limits.objects.create(
            environment=environment,
            version=1,
            created_at=now(),
            created_by="installation",
            reason="Starting values (reference/reliability.md §1.2)",
            **STARTING_LIMITS,
        )


class Migration(migrations.Migration):
    dependencies = [("risk", "0001_initial")]
    operations = [migrations.RunPython(create, migrations.RunPython.noop)]
