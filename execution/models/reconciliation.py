"""Comparisons with the exchange, what they found, and what people asked of a trading worker."""

from django.db import models
from django.db.models import Q

from execution.contracts import (
    DivergenceKind,
    Outcome,
    RequestKind,
)
from execution.models.orders import Order
from tradingbot.core.fields import AmountField, EnvironmentField


class ReconciliationRun(models.Model):
    """One comparison of our books with the exchange's. `degraded`: a query failed, nothing was concluded."""

    environment = EnvironmentField()
    trigger = models.CharField(max_length=24)
    status = models.CharField(max_length=12, default="running")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    orders_compared = models.IntegerField(default=0)
    fills_compared = models.IntegerField(default=0)
    balances_compared = models.IntegerField(default=0)
    fills_posted = models.IntegerField(default=0)
    divergence_count = models.IntegerField(default=0)
    note = models.TextField(blank=True)

    class Meta:
        indexes = [models.Index(fields=["environment", "-started_at"])]


class Divergence(models.Model):
    """A difference between the exchange's books and ours, with the records that prove it."""

    environment = EnvironmentField()
    kind = models.CharField(max_length=24, choices=[(k.value, k.value) for k in DivergenceKind])
    symbol = models.CharField(max_length=32, blank=True)
    subject = models.CharField(max_length=96)
    ours = models.JSONField(default=dict)
    theirs = models.JSONField(default=dict)
    amount = AmountField(null=True)
    amount_asset = models.CharField(max_length=16, blank=True)
    likely_cause = models.CharField(max_length=300)
    first_run = models.ForeignKey(ReconciliationRun, on_delete=models.PROTECT, related_name="found")
    last_run = models.ForeignKey(ReconciliationRun, on_delete=models.PROTECT, related_name="seen")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=150, blank=True)
    resolution = models.CharField(max_length=300, blank=True)
    outcome = models.CharField(max_length=10, blank=True, choices=[(o.value, o.value) for o in Outcome])
    version = models.IntegerField(default=1, help_text="Rises when what a person would decide on changes")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "kind", "subject"],
                condition=Q(closed_at__isnull=True),
                name="execution_divergence_one_open",
            )
        ]
        indexes = [models.Index(fields=["environment", "closed_at"])]
        permissions = [("settle_divergence", "Can settle a divergence")]


class OperatorRequest(models.Model):
    """What a person decided that needs the exchange: asked for by a page, carried out by a trading worker.

    No request handler reaches the signed exchange. One open request per order and per divergence, so the
    second answer is refused. `taken_at` is the latch: what is sent to the exchange is sent by who set it.
    """

    environment = EnvironmentField()
    kind = models.CharField(max_length=16, choices=[(k.value, k.value) for k in RequestKind])
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="requests")
    divergence = models.ForeignKey(Divergence, null=True, on_delete=models.PROTECT, related_name="requests")
    seen_version = models.IntegerField()
    trade_ids = models.JSONField(default=list)
    price = AmountField(null=True, help_text="The limit asked for, of a replacement")
    reason = models.CharField(max_length=300)
    actor = models.CharField(max_length=150)
    asked_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    succeeded = models.BooleanField(null=True)
    detail = models.CharField(max_length=600, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["order"], condition=Q(done_at=None), name="execution_operator_one_per_order"
            ),
            models.UniqueConstraint(
                fields=["divergence"], condition=Q(done_at=None), name="execution_operator_one_per_divergence"
            ),
            models.CheckConstraint(
                condition=Q(order=None, divergence__isnull=False) | Q(order__isnull=False, divergence=None),
                name="execution_operator_one_subject",
            ),
        ]
        indexes = [
            models.Index(
                fields=["environment", "id"], condition=Q(done_at=None), name="execution_operator_open"
            )
        ]


class ReconciliationRequest(models.Model):
    """A doorbell that survives: somebody asked for a reconciliation (reconnect, unknown, -2010, kill)."""

    environment = EnvironmentField()
    trigger = models.CharField(max_length=24)
    requested_at = models.DateTimeField()
    run = models.ForeignKey(ReconciliationRun, null=True, on_delete=models.PROTECT)

    class Meta:
        indexes = [
            models.Index(fields=["environment", "id"], condition=Q(run=None), name="execution_request_open")
        ]
