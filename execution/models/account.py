"""The account: its ledger, balances, movements from outside, and the equity curve."""

from django.conf import settings
from django.db import models

from tradingbot.core.fields import AmountField, EnvironmentField


class Account(models.Model):
    """One row per environment: the lock under which exposure is reserved, and the agreed starting balances."""

    environment = EnvironmentField(primary_key=True)
    ledger = models.IntegerField(
        default=1,
        help_text="Rises when a reset of the environment is accepted: the exchange's ids begin again",
    )
    baseline = models.JSONField(default=dict, help_text="Balance per asset at the first reconciliation")
    baseline_at = models.DateTimeField(null=True)
    equity_peak_quote = AmountField(null=True)
    clock_offset_ms = models.IntegerField(null=True)
    clock_measured_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.environment


def current_ledger() -> int:
    """The ledger that new rows belong to; 1 before the account's first row."""
    environment = settings.TRADING_ENVIRONMENT.value
    ledger = Account.objects.filter(environment=environment).values_list("ledger", flat=True).first()
    return ledger or 1


class AccountBalance(models.Model):
    """The exchange's balance of an asset as last told by it (absolute values win by their time)."""

    environment = EnvironmentField()
    asset = models.CharField(max_length=16)
    free = AmountField()
    locked = AmountField()
    as_of = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "asset"], name="execution_balance_unique")
        ]


class BalanceMovement(models.Model):
    """A deposit, withdrawal or transfer (`balanceUpdate`): a change of balance that no fill explains."""

    environment = EnvironmentField()
    ledger = models.IntegerField(default=current_ledger)
    asset = models.CharField(max_length=16)
    amount = AmountField()
    event_key = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "event_key"], name="execution_movement_unique")
        ]


class EquityPoint(models.Model):
    """The account's worth at an instant: one point of the equity curve.

    `net_flow_quote` is what deposits and withdrawals brought since the baseline, at the prices of `at`: equity
    less flow is what trading and the market made of it.
    """

    environment = EnvironmentField()
    at = models.DateTimeField()
    equity_quote = AmountField()
    cash_quote = AmountField()
    realised_pnl_quote = AmountField()
    unrealised_pnl_quote = AmountField()
    fees_quote = AmountField()
    net_flow_quote = AmountField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "at"], name="execution_equity_point_unique")
        ]
