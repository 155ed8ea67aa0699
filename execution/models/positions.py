"""Fills, the lots and positions that they come to, and how long those were without a stop."""

from django.db import models
from django.db.models import Q

from execution.models.orders import Order
from tradingbot.core.fields import AmountField, EnvironmentField


class Fill(models.Model):
    """A trade of ours, known by (environment, ledger, symbol, trade id) and applied once (invariant 6)."""

    environment = EnvironmentField()
    ledger = models.IntegerField(default=1)
    symbol = models.CharField(max_length=32)
    trade_id = models.BigIntegerField()
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="fills")
    exchange_order_id = models.BigIntegerField()
    side = models.CharField(max_length=4)
    price = AmountField()
    quantity = AmountField()
    quote_quantity = AmountField()
    commission = AmountField()
    commission_asset = models.CharField(max_length=16)
    commission_quote = AmountField(help_text="Worth of the commission in quote when it was paid")
    is_maker = models.BooleanField()
    at = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "ledger", "symbol", "trade_id"], name="execution_fill_unique"
            ),
            models.CheckConstraint(
                condition=Q(quantity__gt=0) & Q(price__gt=0) & Q(commission__gte=0),
                name="execution_fill_sane",
            ),
        ]
        indexes = [models.Index(fields=["environment", "symbol", "at"])]


class Lot(models.Model):
    """What one BUY brought (less a commission in base), and what no SELL has taken of it; costs with entry fees.

    A projection of the fills in the exchange's order, first in first out (`execution.rules.accounting`).
    """

    fill = models.OneToOneField(Fill, primary_key=True, on_delete=models.PROTECT)
    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    at = models.DateTimeField()
    trade_id = models.BigIntegerField()
    quantity = AmountField()
    cost_quote = AmountField()
    quantity_left = AmountField()
    cost_left_quote = AmountField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(quantity_left__gte=0) & Q(quantity_left__lte=models.F("quantity")),
                name="execution_lot_sane",
            )
        ]
        indexes = [
            models.Index(
                fields=["environment", "symbol", "at"],
                condition=Q(quantity_left__gt=0),
                name="execution_lot_open",
            ),
            models.Index(fields=["environment", "symbol", "at", "trade_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.quantity_left} of {self.quantity} {self.symbol}"


class LotClosing(models.Model):
    """The part of a SELL that one lot met; `lot` is null for coins that came from elsewhere. A projection."""

    sale = models.ForeignKey(Fill, on_delete=models.PROTECT, related_name="closings")
    lot = models.ForeignKey(Lot, null=True, on_delete=models.PROTECT, related_name="closings")
    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    at = models.DateTimeField()
    trade_id = models.BigIntegerField()
    quantity = AmountField()
    proceeds_quote = AmountField(help_text="Net of the sale's fee")
    cost_quote = AmountField()
    realised_pnl_quote = AmountField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sale", "lot"], nulls_distinct=False, name="execution_closing_unique"
            )
        ]
        indexes = [
            models.Index(fields=["environment", "at"]),
            models.Index(fields=["environment", "symbol", "at", "trade_id"]),
        ]


class Position(models.Model):
    """What is held of a symbol's base asset through our fills; the sum of its lots.

    `cost_quote` is the cost of `quantity` with entry commissions; `realised_pnl_quote` is net of all fees.
    """

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    base_asset = models.CharField(max_length=16)
    quote_asset = models.CharField(max_length=16)
    quantity = AmountField(default=0)
    cost_quote = AmountField(default=0)
    realised_pnl_quote = AmountField(default=0)
    fees_quote = AmountField(default=0)
    stop_price = AmountField(null=True)
    target_price = AmountField(null=True)
    opened_at = models.DateTimeField(null=True)
    protected_since = models.DateTimeField(null=True)
    unprotected_since = models.DateTimeField(null=True)
    seconds_unprotected = models.DecimalField(
        max_digits=14, decimal_places=3, default=0, help_text="Ended gaps since the position was opened"
    )
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["environment", "symbol"], name="execution_position_unique"),
            models.CheckConstraint(condition=Q(quantity__gte=0), name="execution_position_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.base_asset}"


class ProtectionGap(models.Model):
    """A time in which something was held without a stop on the exchange, from its first moment to its end."""

    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    quantity = AmountField(help_text="Without protection when the gap began")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "symbol"],
                condition=Q(ended_at=None),
                name="execution_protection_gap_one_open",
            )
        ]
        indexes = [models.Index(fields=["environment", "-started_at"])]
