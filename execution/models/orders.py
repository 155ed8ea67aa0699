"""Intents, orders, what happened to them, cancels, and the questions about unknown ones."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q

from execution.contracts import (
    CANCEL_TRANSITIONS,
    CANCEL_UNRESOLVED,
    TRANSITIONS,
    CancelStatus,
    ExchangeStatus,
    IntentKind,
    LifecycleKind,
    ListKind,
    OrderStatus,
    Role,
    Source,
)
from execution.models.account import current_ledger
from tradingbot.core.fields import AmountField, EnvironmentField

CLIENT_ORDER_ID = r"^[A-Za-z0-9_-]{1,36}$"


class ExecutionIntent(models.Model):
    """One request to the exchange, ready to be sent; immutable (a trigger refuses changes).

    One of kind `proposal` per proposal, ever. Those that protect or close what a proposal opened name it,
    too: its approval is what they act on. `parameters` and `request_digest` fix the request to the letter.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = EnvironmentField()
    kind = models.CharField(
        max_length=12, choices=[(k.value, k.value) for k in IntentKind], default=IntentKind.PROPOSAL
    )
    proposal = models.ForeignKey("proposals.Proposal", on_delete=models.PROTECT, related_name="intents")
    operator_request = models.OneToOneField(
        "execution.OperatorRequest",
        null=True,
        on_delete=models.PROTECT,
        related_name="intent",
        help_text="What a person asked for and this places, at most once",
    )
    client_order_id = models.CharField(max_length=36)
    list_kind = models.CharField(
        max_length=5, blank=True, default="", choices=[(k.value, k.value) for k in ListKind]
    )
    list_client_order_id = models.CharField(max_length=36, blank=True, default="")
    endpoint = models.CharField(max_length=24, default="order")
    parameters = models.JSONField(default=dict)
    request_digest = models.CharField(max_length=64, blank=True, default="")
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    order_type = models.CharField(max_length=24)
    time_in_force = models.CharField(max_length=4, blank=True)
    quantity = AmountField()
    price = AmountField(null=True)
    stop_price = AmountField(null=True)
    target_price = AmountField(null=True)
    digest = models.CharField(max_length=64)
    limits_version = models.IntegerField()
    control_version = models.IntegerField()
    timestamp_ms = models.BigIntegerField(help_text="The signed timestamp, fixed here and sent as it is")
    recv_window_ms = models.IntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "client_order_id"], name="execution_intent_client_order_id_unique"
            ),
            models.CheckConstraint(
                condition=Q(client_order_id__regex=CLIENT_ORDER_ID),
                name="execution_intent_client_order_id_form",
            ),
            models.UniqueConstraint(
                fields=["proposal"],
                condition=Q(kind="proposal"),
                name="execution_intent_one_per_proposal",
            ),
            models.UniqueConstraint(
                fields=["environment", "list_client_order_id"],
                condition=~Q(list_client_order_id=""),
                name="execution_intent_list_id_unique",
            ),
            models.CheckConstraint(
                condition=Q(list_client_order_id="") | Q(list_client_order_id__regex=CLIENT_ORDER_ID),
                name="execution_intent_list_id_form",
            ),
        ]
        indexes = [models.Index(fields=["environment", "symbol", "kind", "created_at"])]


class Order(models.Model):
    """One order of an intent with what we know of it; `role` tells the legs of an order list apart.

    `live_at` is the exchange's time from which a leg was on its book, not only pending.
    """

    TRANSITIONS: ClassVar = TRANSITIONS
    TOPIC: ClassVar = "order"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = EnvironmentField()
    intent = models.ForeignKey(ExecutionIntent, on_delete=models.PROTECT, related_name="orders")
    ledger = models.IntegerField(default=current_ledger)
    role = models.CharField(max_length=8, default=Role.ORDER, choices=[(r.value, r.value) for r in Role])
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    client_order_id = models.CharField(max_length=36)
    exchange_order_id = models.BigIntegerField(null=True)
    quantity = AmountField()
    price = AmountField(null=True)
    trigger_price = AmountField(null=True)
    status = models.CharField(
        max_length=24, choices=[(s.value, s.value) for s in OrderStatus], default=OrderStatus.INTENT
    )
    version = models.IntegerField(default=1)
    exchange_status = models.CharField(
        max_length=20, blank=True, choices=[(s.value, s.value) for s in ExchangeStatus]
    )
    executed_quantity = AmountField(default=0)
    cumulative_quote = AmountField(default=0)
    reserved_quote = AmountField(default=0, help_text="Worst cost still possible, of a BUY")
    reserved_base = AmountField(default=0, help_text="Base still to be sold, of a SELL")
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    acknowledged_at = models.DateTimeField(null=True)
    unknown_since = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    live_at = models.DateTimeField(null=True)
    next_probe_at = models.DateTimeField(null=True)
    watch_until = models.DateTimeField(null=True, help_text="A person chose to keep asking until then")
    request_sha256 = models.CharField(max_length=64, blank=True)
    response_sha256 = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["intent", "role"], name="execution_order_role_unique"),
            models.UniqueConstraint(
                fields=["environment", "client_order_id"], name="execution_order_client_order_id_unique"
            ),
            models.UniqueConstraint(
                fields=["environment", "ledger", "symbol", "exchange_order_id"],
                name="execution_order_exchange_id_unique",
            ),
            models.CheckConstraint(
                condition=~Q(status="execution_confirmed") | Q(exchange_order_id__isnull=False),
                name="execution_order_confirmed_has_exchange_id",
            ),
            models.CheckConstraint(
                condition=Q(status__in=["intent", "aborted"]) | Q(sent_at__isnull=False),
                name="execution_order_submitted_has_sent_at",
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "-created_at"]),
            models.Index(fields=["environment", "status"]),
        ]
        permissions = [
            ("resolve_order", "Can resolve an order of unknown fate"),
            ("operate_order", "Can cancel an order and close a position"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} {self.client_order_id} ({self.status})"


class OrderCancel(models.Model):
    """A request to cancel an intent's orders, sent once; at most one without an end per intent."""

    TRANSITIONS: ClassVar = CANCEL_TRANSITIONS
    TOPIC: ClassVar = "cancel"

    environment = EnvironmentField()
    intent = models.ForeignKey(ExecutionIntent, on_delete=models.PROTECT, related_name="cancels")
    client_order_id = models.CharField(max_length=36, help_text="The id of the cancel request itself")
    status = models.CharField(
        max_length=8, choices=[(s.value, s.value) for s in CancelStatus], default=CancelStatus.INTENT
    )
    version = models.IntegerField(default=1)
    reason = models.TextField(blank=True)
    why = models.CharField(max_length=64)
    actor = models.CharField(max_length=150)
    timestamp_ms = models.BigIntegerField()
    recv_window_ms = models.IntegerField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "client_order_id"], name="execution_cancel_client_order_id_unique"
            ),
            models.UniqueConstraint(
                fields=["intent"],
                condition=Q(status__in=sorted(CANCEL_UNRESOLVED)),
                name="execution_cancel_one_under_way",
            ),
        ]

    def __str__(self) -> str:
        return f"cancel {self.client_order_id} ({self.status})"


class OrderLifecycleEvent(models.Model):
    """Something that happened to an order; append-only. `order` is null while the order is not known to us."""

    environment = EnvironmentField()
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="events")
    symbol = models.CharField(max_length=32)
    client_order_id = models.CharField(max_length=36, blank=True)
    exchange_order_id = models.BigIntegerField(null=True)
    kind = models.CharField(max_length=20, choices=[(k.value, k.value) for k in LifecycleKind])
    source = models.CharField(max_length=8, choices=[(s.value, s.value) for s in Source])
    event_key = models.CharField(max_length=120)
    executed_quantity = AmountField(null=True)
    exchange_status = models.CharField(max_length=20, blank=True)
    detail = models.CharField(max_length=300, blank=True)
    payload = models.JSONField(default=dict)
    payload_sha256 = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(help_text="The exchange's time, or ours for local events")
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "symbol", "event_key"], name="execution_event_key_unique"
            )
        ]
        indexes = [
            models.Index(fields=["environment", "client_order_id"]),
            models.Index(fields=["environment", "symbol", "exchange_order_id"]),
        ]


class Probe(models.Model):
    """One question of the saga about an unknown order, with the raw answer; append-only."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="probes")
    method = models.CharField(max_length=32)
    answer = models.CharField(max_length=16, help_text="found, absent, failed or waiting")
    detail = models.TextField(blank=True)
    raw = models.JSONField(default=dict, help_text="The exchange's answer as it came")
    at = models.DateTimeField()


class OrderTest(models.Model):
    """An answer of `order/test`: asked before the first order of a symbol, when the settings want it."""

    environment = EnvironmentField()
    ledger = models.IntegerField(default=1)
    symbol = models.CharField(max_length=32)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="tests")
    passed = models.BooleanField()
    detail = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["environment", "symbol"])]
