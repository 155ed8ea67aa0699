"""Tables of advising and approving. Written by proposals.services only."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q

from market.contracts import Interval
from proposals.contracts import TRANSITIONS, Action, ModelApi, OrderType, ProposalStatus, Side
from proposals.rules.scoring import RULE_VERSION, Score
from tradingbot.core.fields import AmountField, EnvironmentField


def choices_of(enum: type) -> list[tuple[str, str]]:
    """Django choices of a StrEnum."""
    return [(member.value, member.value) for member in enum]  # type: ignore[attr-defined]


class Strategy(models.Model):
    """When the advisor is asked: on each closed candle of `interval` for each of `symbols`, within the budget."""

    name = models.CharField(max_length=48, unique=True)
    enabled = models.BooleanField(default=True)
    shadow = models.BooleanField(
        default=False,
        help_text="Its proposals go through the gate, are kept and scored, and are never queued or ordered",
    )
    symbols = models.JSONField(default=list, help_text='For example ["BTCUSDT", "ETHUSDT"]')
    interval = models.CharField(max_length=4, choices=choices_of(Interval), default=Interval.M1)
    model = models.CharField(max_length=80, blank=True, help_text="Empty: ADVISOR_MODEL of the settings")
    api = models.CharField(
        max_length=20,
        choices=choices_of(ModelApi),
        default=ModelApi.CHAT_COMPLETIONS,
        help_text="Chat Completions is what local servers speak; Responses where the model's server offers it",
    )
    prompt_version = models.CharField(max_length=16, default="v2")
    decisions_per_hour_max = models.PositiveIntegerField(
        default=3600, help_text="Calls of the model in an hour; beyond it every decision is NO_TRADE"
    )
    tokens_per_day_max = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Tokens in a UTC day, prompt and answer; empty: no limit"
    )
    cost_per_day_max_usd = AmountField(
        null=True,
        blank=True,
        help_text="USD in a UTC day by the model prices; empty: no limit. A model without price is not asked then",
    )
    min_seconds_between = models.PositiveIntegerField(
        default=20, help_text="Seconds of our clock between two decisions on one symbol"
    )
    requests_per_hour_max = models.PositiveIntegerField(
        default=12, help_text="Decisions out of turn that people may ask for in an hour"
    )

    class Meta:
        verbose_name_plural = "strategies"

    def __str__(self) -> str:
        return self.name


class ModelPrice(models.Model):
    """What a model costs. A strategy with a budget in USD does not ask a model without one."""

    model = models.CharField(primary_key=True, max_length=80, help_text="As strategies name it")
    prompt_usd_per_million = AmountField(help_text="USD for a million tokens of the prompt")
    completion_usd_per_million = AmountField(help_text="USD for a million tokens of the answer")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(prompt_usd_per_million__gte=0, completion_usd_per_million__gte=0),
                name="proposals_price_not_negative",
            )
        ]

    def __str__(self) -> str:
        return self.model


class Decision(models.Model):
    """One call of the advisor: request and response whole, with hashes. Unique per snapshot: used once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = EnvironmentField()
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT)
    snapshot = models.OneToOneField("market.Snapshot", null=True, on_delete=models.PROTECT)
    symbol = models.CharField(max_length=32)
    candle_open_time = models.DateTimeField()
    shadow = models.BooleanField(default=False, help_text="As the strategy was when it was asked")
    on_demand = models.BooleanField(default=False, help_text="Out of turn, because a person asked")
    prompt_version = models.CharField(max_length=16)
    prompt_sha256 = models.CharField(max_length=64, blank=True)
    request = models.JSONField(null=True)
    request_sha256 = models.CharField(max_length=64, blank=True)
    response_text = models.TextField(blank=True)
    response_sha256 = models.CharField(max_length=64, blank=True)
    model_requested = models.CharField(max_length=80, blank=True)
    model_answered = models.CharField(max_length=80, blank=True)
    request_id = models.CharField(max_length=80, blank=True)
    prompt_tokens = models.IntegerField(null=True)
    completion_tokens = models.IntegerField(null=True)
    counted_tokens = models.PositiveIntegerField(
        default=0, help_text="What counts against the budget; at its worst where the server does not tell"
    )
    cost_usd = AmountField(null=True, help_text="By the model's price of then; empty where none was known")
    latency_ms = models.IntegerField(null=True)
    attempts = models.PositiveSmallIntegerField(
        default=0, help_text="Requests sent: 0, 1, or 2 after a retry"
    )
    outcome = models.CharField(max_length=48, blank=True, help_text="OK, or the code of what went wrong")
    outcome_detail = models.TextField(blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "strategy", "symbol", "candle_open_time"],
                condition=Q(on_demand=False),
                name="proposals_decision_once_per_candle",
            )
        ]
        indexes = [models.Index(fields=["environment", "symbol", "-started_at"])]


class DecisionRequest(models.Model):
    """A person asks for a decision on a symbol now; the row is the queue.

    Everybody who asks while one waits or is under way gets that same decision (`merged`), and none of them can
    be the only approver of what comes of it.
    """

    TOPIC: ClassVar = "decision_request"

    environment = EnvironmentField()
    strategy = models.ForeignKey(Strategy, on_delete=models.PROTECT)
    symbol = models.CharField(max_length=32)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    merged = models.BooleanField(default=False, help_text="Joined a decision that was asked for already")
    decision = models.ForeignKey(Decision, null=True, on_delete=models.PROTECT, related_name="requests")
    lapsed_at = models.DateTimeField(null=True)

    class Meta:
        permissions = [("ask_decision", "Can ask the advisor for a decision")]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "strategy", "symbol", "requested_by"],
                condition=Q(decision=None, lapsed_at=None),
                name="proposals_one_request_waits_per_person",
            ),
            models.CheckConstraint(
                condition=Q(decision=None) | Q(lapsed_at=None), name="proposals_request_taken_or_lapsed"
            ),
        ]
        indexes = [models.Index(fields=["environment", "-requested_at"])]

    def __str__(self) -> str:
        return f"{self.symbol}, asked for by {self.requested_by}"


class Proposal(models.Model):
    """One TradeProposal with its fate. Order fields are filled by the gate's quantised order."""

    TRANSITIONS: ClassVar = TRANSITIONS
    TOPIC: ClassVar = "proposal"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    environment = EnvironmentField()
    decision = models.OneToOneField(Decision, on_delete=models.PROTECT)
    shadow = models.BooleanField(
        default=False, help_text="Of a shadow strategy: the database lets it never be queued or claimed"
    )
    symbol = models.CharField(max_length=32)
    action = models.CharField(max_length=8, choices=choices_of(Action))
    answer = models.JSONField(help_text="The TradeProposal as validated, or the reason of NO_TRADE")
    held = models.JSONField(
        null=True,
        help_text="Of a SELL: quantity, stop and target of the position as the advisor was told of it",
    )
    reasons = models.TextField(blank=True)
    confidence_pct = models.IntegerField(null=True)
    status = models.CharField(
        max_length=20, choices=choices_of(ProposalStatus), default=ProposalStatus.PROPOSED
    )
    version = models.IntegerField(default=1)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    side = models.CharField(max_length=4, choices=choices_of(Side), blank=True)
    order_type = models.CharField(max_length=8, choices=choices_of(OrderType), blank=True)
    time_in_force = models.CharField(max_length=4, blank=True)
    quantity = AmountField(null=True)
    price = AmountField(null=True)
    stop_price = AmountField(null=True)
    target_price = AmountField(null=True)
    reference_price = AmountField(null=True)
    worst_price = AmountField(null=True)
    notional_quote = AmountField(null=True)
    fee_quote = AmountField(null=True)
    limits_version = models.IntegerField(null=True)
    verdict = models.JSONField(
        default=list, help_text="Every rule of the gate: name, observed, limit, verdict"
    )
    digest = models.CharField(max_length=64, blank=True)
    refusal = models.TextField(blank=True)
    validated_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=150, blank=True)
    decision_reason = models.CharField(max_length=300, blank=True)
    claimed_at = models.DateTimeField(null=True)
    approvals_required = models.PositiveSmallIntegerField(
        default=1, help_text="How many different people must approve"
    )
    reduction = models.JSONField(null=True, help_text="Who took it down last, when, from which size")

    class Meta:
        permissions = [("decide_proposal", "Can approve, reduce and reject proposals")]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status__in=["auto_approved", "pending_approval", "approved"])
                # NULL > 0 is not false but unknown, and a check lets the unknown pass.
                | (Q(quantity__isnull=False, quantity__gt=0) & ~Q(digest="")),
                name="proposals_approvable_has_order",
            ),
            models.CheckConstraint(
                condition=Q(shadow=False)
                | Q(
                    status__in=["proposed", "no_trade", "risk_rejected", "validated", "shadow", "expired"],
                    claimed_at__isnull=True,
                    digest="",
                ),
                name="proposals_shadow_never_ordered",
            ),
            models.CheckConstraint(
                condition=~Q(status="shadow") | Q(shadow=True), name="proposals_shadow_ends_in_shadow"
            ),
            models.CheckConstraint(
                condition=Q(decided_at__isnull=True, decided_by="")
                | (Q(decided_at__isnull=False) & ~Q(decided_by="")),
                name="proposals_decided_at_and_by",
            ),
        ]
        indexes = [
            models.Index(fields=["environment", "status", "expires_at"]),
            models.Index(fields=["environment", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.symbol} ({self.status})"


class ApprovalVote(models.Model):
    """One person's approval of exactly one order: this version with this digest. Append-only."""

    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="votes")
    version = models.IntegerField()
    digest = models.CharField(max_length=64)
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["proposal", "version", "digest", "actor"], name="proposals_one_vote_per_person"
            )
        ]

    def __str__(self) -> str:
        return f"{self.actor} at {self.at:%H:%M:%S} UTC"


class ProposalScore(models.Model):
    """What a proposal would have brought by its stop, target and validity (proposals.rules.scoring).

    One for each BUY and SELL, whatever became of it; a SELL is held against keeping what it sells. `next_minute`
    is the first 1m candle not looked at.
    """

    proposal = models.OneToOneField(
        Proposal, primary_key=True, on_delete=models.PROTECT, related_name="score"
    )
    environment = EnvironmentField()
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4, choices=choices_of(Side), default=Side.BUY)
    score = models.CharField(max_length=12, choices=choices_of(Score))
    rule_version = models.PositiveSmallIntegerField(default=RULE_VERSION)
    detail = models.CharField(max_length=120, blank=True)
    fee_rate = AmountField(help_text="Of one trade, as a fraction")
    size_quote = AmountField(help_text="Notional of the gate's order, else what the model asked for")
    quote = AmountField(help_text="Of the snapshot: the ask for a BUY, the bid for a SELL")
    limit_price = AmountField(null=True)
    waits = models.BooleanField()
    stop_price = AmountField(null=True)
    target_price = AmountField(null=True)
    start = models.DateTimeField(help_text="First minute that counts, in market time")
    valid_until = models.DateTimeField()
    next_minute = models.DateTimeField()
    entry_price = AmountField(null=True)
    entry_at = models.DateTimeField(null=True)
    exit_price = AmountField(null=True)
    exit_at = models.DateTimeField(null=True)
    net_pct = AmountField(null=True)
    net_quote = AmountField(null=True)
    looked_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(score__in=["waiting", "held"], settled_at__isnull=True)
                | (~Q(score__in=["waiting", "held"]) & Q(settled_at__isnull=False)),
                name="proposals_score_settled",
            ),
            models.CheckConstraint(
                condition=Q(
                    score__in=["target", "stop", "time"], net_pct__isnull=False, net_quote__isnull=False
                )
                | (
                    ~Q(score__in=["target", "stop", "time"]) & Q(net_pct__isnull=True, net_quote__isnull=True)
                ),
                name="proposals_score_result_when_sold",
            ),
        ]
        indexes = [
            models.Index(
                fields=["environment", "looked_at"],
                condition=Q(settled_at=None),
                name="proposals_score_going_on",
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol}: {self.score}"


class AdvisorBreaker(models.Model):
    """The circuit breaker of one (URL, model), shared by all workers through this row."""

    name = models.CharField(primary_key=True, max_length=120)
    shadow = models.BooleanField(
        default=False, help_text="Of shadow strategies: nothing that trades waits for it"
    )
    state = models.CharField(max_length=12, default="closed", help_text="closed, open or half_open")
    failures = models.IntegerField(default=0)
    trips = models.IntegerField(default=0)
    open_until = models.DateTimeField(null=True)
    probe_token = models.UUIDField(null=True)
    probe_until = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"
