"""Tables of execution: intents, orders, lifecycle events, fills, positions, reconciliation.

Written by execution.services only. `environment` is in every key, so that environments never mix.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from execution.contracts import (
    CANCEL_TRANSITIONS,
    CANCEL_UNRESOLVED,
    TRANSITIONS,
    CancelStatus,
    DivergenceKind,
    ExchangeStatus,
    IntentKind,
    LifecycleKind,
    ListKind,
    OrderStatus,
    Outcome,
    RequestKind,
    Role,
    Source,
)
from tradingbot.core.fields import AmountField, EnvironmentField

CLIENT_ORDER_ID = r"^[A-Za-z0-9_-]{1,36}$"


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
    actor = models.CharField(max_length=64)
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


class Probe(models.Model):
    """One question of the saga about an unknown order, with the raw answer; append-only."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="probes")
    method = models.CharField(max_length=32)
    answer = models.CharField(max_length=16, help_text="found, absent, failed or waiting")
    detail = models.TextField(blank=True)
    raw = models.JSONField(default=dict, help_text="The exchange's answer as it came")
    at = models.DateTimeField()


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
    closed_by = models.CharField(max_length=64, blank=True)
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
    actor = models.CharField(max_length=64)
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
