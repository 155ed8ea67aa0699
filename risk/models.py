"""Tables of risk. Written by risk.services only."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar

from django.db import models

from risk.contracts import AutonomyLevel, KillScope, KillStatus, LimitsRequestStatus, TradingState
from tradingbot.core.fields import AmountField, EnvironmentField


class RiskLimits(models.Model):
    """One version of the limits of an environment; the highest version is in force. Rows are never changed."""

    environment = EnvironmentField()
    version = models.IntegerField()
    allowed_symbols = models.JSONField(default=list, help_text='For example ["BTCUSDT", "ETHUSDT"]')
    approval_threshold_quote = AmountField(
        help_text="Below it an order is approved by itself; at or above it a person decides. 0: always a person."
    )
    two_person_threshold_quote = AmountField(
        default=Decimal(200), help_text="At or above it two different people must approve. 0: always two."
    )
    order_notional_max_quote = AmountField()
    symbol_exposure_max_pct = AmountField(help_text="One symbol, in percent of equity")
    gross_exposure_max_pct = AmountField(help_text="All positions and reservations, in percent of equity")
    open_positions_max = models.PositiveIntegerField()
    open_orders_max = models.PositiveIntegerField()
    daily_loss_max_pct = AmountField(
        help_text="Realised and unrealised since 00:00 UTC, in percent of equity"
    )
    spread_max_bps = AmountField()
    price_collar_pct = AmountField(help_text="Farthest a limit price may lie from the quote on the bad side")
    price_drift_max_pct = AmountField(help_text="Farthest the price may move between proposal and order")
    quote_age_max_seconds = AmountField()
    orders_per_minute_max = models.PositiveIntegerField()
    orders_per_hour_max = models.PositiveIntegerField()
    confidence_min_pct = models.PositiveIntegerField()
    reward_to_risk_min = AmountField()
    risk_per_trade_max_pct = AmountField(help_text="Loss at the stop, in percent of equity")
    fee_rate = AmountField(help_text="Commission counted per side, as a fraction (0.001 = 0.1 %)")
    approval_ttl_seconds = models.PositiveIntegerField(help_text="How long a person has")
    auto_ttl_seconds = models.PositiveIntegerField(help_text="How long an automatic approval lives")
    volatility_max_pct = AmountField(
        default=Decimal(3),
        help_text="Farthest that highest and lowest price of the last 5 minutes may lie apart",
    )
    drawdown_max_pct = AmountField(
        default=Decimal(4), help_text="Equity below its highest so far, deposits and withdrawals aside"
    )
    loss_streak_max = models.PositiveIntegerField(
        default=3, help_text="After so many exits in a row that lost, nothing is opened for the pause below"
    )
    loss_streak_pause_seconds = models.PositiveIntegerField(default=4 * 3600)
    cool_down_seconds = models.PositiveIntegerField(
        default=15 * 60, help_text="After an exit that lost, its symbol is not bought again for so long"
    )
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)

    class Meta:
        verbose_name_plural = "risk limits"
        constraints = [
            models.UniqueConstraint(fields=["environment", "version"], name="risk_limits_version_unique")
        ]
        get_latest_by = "version"

    def __str__(self) -> str:
        return f"limits v{self.version} of {self.environment}"


class LimitsRequest(models.Model):
    """Looser limits that one risk manager asked for and another one has to confirm. In force it is a version."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        LimitsRequestStatus.WAITING: frozenset({LimitsRequestStatus.CONFIRMED, LimitsRequestStatus.DECLINED}),
        LimitsRequestStatus.CONFIRMED: frozenset(),
        LimitsRequestStatus.DECLINED: frozenset(),
    }
    TOPIC: ClassVar = "limits_request"

    environment = EnvironmentField()
    status = models.CharField(
        max_length=9,
        choices=[(s.value, s.value) for s in LimitsRequestStatus],
        default=LimitsRequestStatus.WAITING,
    )
    version = models.IntegerField(default=1)
    base_version = models.IntegerField(help_text="The version in force that it was written against")
    values = models.JSONField(help_text="Every limit by name, numbers as text")
    changes = models.JSONField(help_text="What differs from the base: name, before, after, looser")
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    answered_at = models.DateTimeField(null=True)
    answered_by = models.CharField(max_length=150, blank=True)

    class Meta:
        verbose_name = "request for looser limits"
        verbose_name_plural = "requests for looser limits"

    def __str__(self) -> str:
        return f"looser limits asked for by {self.requested_by} ({self.status})"


class TradingControl(models.Model):
    """The switch of an environment. Starts HALTED; `epoch` rises with each change and is part of a claim."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        TradingState.HALTED: frozenset({TradingState.REDUCING, TradingState.ACTIVE}),
        TradingState.REDUCING: frozenset({TradingState.HALTED, TradingState.ACTIVE}),
        TradingState.ACTIVE: frozenset({TradingState.HALTED, TradingState.REDUCING}),
    }
    TOPIC: ClassVar = "control"

    environment = EnvironmentField(primary_key=True)
    status = models.CharField(
        max_length=8, choices=[(s.value, s.value) for s in TradingState], default=TradingState.HALTED
    )
    version = models.IntegerField(default=1)
    changed_at = models.DateTimeField(null=True)
    changed_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        permissions = [("halt_trading", "Can halt trading")]
        verbose_name = "trading control (kill switch)"
        verbose_name_plural = "trading control (kill switch)"

    def __str__(self) -> str:
        return f"{self.environment}: {self.status}"


class Autonomy(models.Model):
    """The level that health allows, one row an environment; written by the watch that runs every 2 s.

    `wanted` is what the checks of the last look allow, `better_since` since when that has been more than the
    level in force. The way up from `halted` is a person's: arming leads to `exits`, and health leads on.
    """

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        AutonomyLevel.AUTO: frozenset({AutonomyLevel.APPROVAL, AutonomyLevel.EXITS, AutonomyLevel.HALTED}),
        AutonomyLevel.APPROVAL: frozenset({AutonomyLevel.AUTO, AutonomyLevel.EXITS, AutonomyLevel.HALTED}),
        AutonomyLevel.EXITS: frozenset({AutonomyLevel.AUTO, AutonomyLevel.APPROVAL, AutonomyLevel.HALTED}),
        AutonomyLevel.HALTED: frozenset({AutonomyLevel.EXITS}),
    }
    TOPIC: ClassVar = "autonomy"

    environment = EnvironmentField(primary_key=True)
    status = models.CharField(
        max_length=8,
        choices=[(level.value, level.value) for level in AutonomyLevel],
        default=AutonomyLevel.EXITS,
    )
    version = models.IntegerField(default=1)
    reason = models.TextField(blank=True)
    wanted = models.CharField(max_length=8, default=AutonomyLevel.EXITS)
    checks = models.JSONField(default=list)
    failing_since = models.JSONField(default=dict)
    better_since = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "autonomy"

    def __str__(self) -> str:
        return f"{self.environment}: {self.status}"


class Kill(models.Model):
    """One press of Halt with its scope: what it found, and when it took effect.

    `asked_at` is when the request came in, `switched_at` when the switch was committed, `effective_at` when by
    the exchange's own word nothing was left to do. `control_version` is that of the switch after it: entries
    claimed under it or earlier are what it ends.
    """

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]] = {
        KillStatus.UNDER_WAY: frozenset({KillStatus.DONE, KillStatus.INCOMPLETE, KillStatus.SUPERSEDED}),
        KillStatus.DONE: frozenset(),
        KillStatus.INCOMPLETE: frozenset(),
        KillStatus.SUPERSEDED: frozenset(),
    }
    TOPIC: ClassVar = "kill"

    environment = EnvironmentField()
    scope = models.CharField(max_length=14, choices=[(s.value, s.value) for s in KillScope])
    status = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in KillStatus], default=KillStatus.UNDER_WAY
    )
    version = models.IntegerField(default=1)
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=300, blank=True)
    control_version = models.IntegerField()
    touched = models.JSONField(null=True, help_text="What it found, in numbers; null when it was not counted")
    asked_at = models.DateTimeField()
    switched_at = models.DateTimeField(null=True)
    effective_at = models.DateTimeField(null=True)
    detail = models.CharField(max_length=600, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["environment"], condition=models.Q(status="under_way"), name="risk_kill_under_way"
            )
        ]

    def __str__(self) -> str:
        return f"kill ({self.scope}) by {self.actor}: {self.status}"

    @property
    def switched_ms(self) -> int | None:
        """Milliseconds from the request to the committed switch."""
        return _milliseconds(self.asked_at, self.switched_at)

    @property
    def effective_ms(self) -> int | None:
        """Milliseconds from the request until nothing was left to do."""
        return _milliseconds(self.asked_at, self.effective_at)


def _milliseconds(start: datetime, end: datetime | None) -> int | None:
    return None if end is None else (end - start) // timedelta(milliseconds=1)


class Assessment(models.Model):
    """One run of the gate over a proposal: advice when it arrives, binding when it is claimed. Append-only."""

    environment = EnvironmentField()
    proposal = models.ForeignKey("proposals.Proposal", on_delete=models.PROTECT, related_name="assessments")
    binding = models.BooleanField()
    passed = models.BooleanField()
    results = models.JSONField()
    limits_version = models.IntegerField()
    inputs = models.JSONField(help_text="Portfolio, quote and control as the gate saw them")
    inputs_sha256 = models.CharField(max_length=64)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["proposal", "at"])]
