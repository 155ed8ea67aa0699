"""The nouns of risk: limits, portfolio, verdicts, the trading control.

Errors:
    RiskError
    ├── LimitsMissing   no limits are on record: everything is refused
    ├── NotAssessable   the proposal was judged or has ended before; it is not judged again
    ├── NotAuthorised   the binding gate refused; `verdict` holds every rule
    └── ControlRefused  the switch or the limits cannot be changed as asked
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from market.contracts import PriceRange, Quote, SymbolFilters
from proposals.contracts import QuantisedOrder


class RiskError(Exception):
    """Base of this app's expected failures."""


class LimitsMissing(RiskError):
    """No limits are on record for the environment; nothing can be judged against them, so all is refused."""


class NotAssessable(RiskError):
    """The proposal is no longer `proposed`: another worker judged it, or it expired."""


class ControlRefused(RiskError):
    """The trading control or the limits cannot be changed as asked; nothing was changed.

    `errors` names the fields that were wrong, for a form.
    """

    def __init__(self, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or {}


class TradingState(StrEnum):
    HALTED = "HALTED"
    REDUCING = "REDUCING"
    ACTIVE = "ACTIVE"


class AutonomyLevel(StrEnum):
    """What the desk may do by itself; each allows less than the one before it."""

    AUTO = "auto"
    APPROVAL = "approval"
    EXITS = "exits"
    HALTED = "halted"

    @property
    def rank(self) -> int:
        """Higher allows more."""
        return {"auto": 3, "approval": 2, "exits": 1, "halted": 0}[self.value]


# The watch looks every 2 s; one that is silent for longer says nothing of now.
AUTONOMY_SEEN_WITHIN = timedelta(seconds=30)
AUTONOMY_NAMES = {
    AutonomyLevel.AUTO: "Small orders are approved automatically",
    AutonomyLevel.APPROVAL: "Every entry waits for a person",
    AutonomyLevel.EXITS: "Only exits are ordered",
    AutonomyLevel.HALTED: "Halted by itself: a person has to arm again",
}


@dataclass(frozen=True, slots=True)
class Health:
    """How the parts do, gathered by execution (`execution.selectors.health`). None: it cannot be read.

    Orders are those that proposals came to; `rejected_in_a_row` counts the newest since the switch was last
    moved.
    """

    stale_feeds: tuple[str, ...] | None
    reconciled: bool | None
    reconciliation_note: str
    unresolved_orders: int | None
    rejected_in_a_row: int | None
    open_breakers: tuple[str, ...] | None
    orders_last_hour: int | None
    orders_failed_last_hour: int | None
    speed_samples: int | None
    proposal_to_execution_p95_ms: int | None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check of the health found, and how it becomes green again."""

    name: str
    passes: bool
    observed: str
    limit: str
    lowers_to: AutonomyLevel
    way_back: str


@dataclass(frozen=True, slots=True)
class SeenAutonomy:
    """The level in force as the gate sees it; `seen_at` is when the watch over health last looked."""

    level: AutonomyLevel
    reason: str
    seen_at: datetime


class KillScope(StrEnum):
    """How far a kill goes. Each does what the one before it does; only the last touches what protects."""

    STOP_ENTRIES = "stop_entries"
    CANCEL_ENTRIES = "cancel_entries"
    FLATTEN = "flatten"


SCOPE_NAMES = {
    KillScope.STOP_ENTRIES: "Stop entries",
    KillScope.CANCEL_ENTRIES: "Stop, and cancel open entries",
    KillScope.FLATTEN: "Flatten: sell everything",
}


class KillStatus(StrEnum):
    UNDER_WAY = "under_way"
    DONE = "done"
    INCOMPLETE = "incomplete"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class TouchedOrder:
    """An entry on the exchange that a kill would cancel; `open_quote` is what it may still cost at most."""

    order_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal | None
    executed_quantity: Decimal
    open_quote: Decimal


@dataclass(frozen=True, slots=True)
class TouchedPosition:
    """What is held and would be sold; `worth_quote` at the bid, None without a price."""

    symbol: str
    quantity: Decimal
    worth_quote: Decimal | None
    protections: int


@dataclass(frozen=True, slots=True)
class KillPreview:
    """What a kill would touch now: filled in by execution (`settings.KILL_PREVIEW`)."""

    waiting: int
    entries: tuple[TouchedOrder, ...]
    positions: tuple[TouchedPosition, ...]

    @property
    def entries_quote(self) -> Decimal:
        """What the open entries may still cost at most, in quote."""
        return sum((order.open_quote for order in self.entries), Decimal(0))

    @property
    def positions_quote(self) -> Decimal | None:
        """What is held at the bid, in quote; None while a price is missing."""
        worths = [position.worth_quote for position in self.positions]
        return (
            sum((worth for worth in worths if worth is not None), Decimal(0)) if None not in worths else None
        )


class LimitsRequestStatus(StrEnum):
    WAITING = "waiting"
    CONFIRMED = "confirmed"
    DECLINED = "declined"


class RuleVerdict(StrEnum):
    """HOLD: would be refused if it were ordered now, yet a person may look at it (trading not armed)."""

    PASS = "pass"  # noqa: S105
    HOLD = "hold"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule saw. `observed` and `limit` are plain text with `unit` beside them."""

    name: str
    verdict: RuleVerdict
    observed: str
    limit: str
    unit: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The stored form."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "observed": self.observed,
            "limit": self.limit,
            "unit": self.unit,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rules with what they saw; passes only when none denies. `order` is None when it cannot be formed."""

    results: tuple[RuleResult, ...]
    order: QuantisedOrder | None
    limits_version: int

    @property
    def denied(self) -> tuple[RuleResult, ...]:
        """The rules that deny."""
        return tuple(r for r in self.results if r.verdict is RuleVerdict.DENY)

    @property
    def held(self) -> tuple[RuleResult, ...]:
        """The rules that hold."""
        return tuple(r for r in self.results if r.verdict is RuleVerdict.HOLD)


class NotAuthorised(RiskError):
    """The binding gate refused; nothing may be ordered."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("; ".join(f"{r.name}: {r.reason}" for r in (*verdict.denied, *verdict.held)))
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Holding:
    """A position as the gate sees it; exposure at `mark_price` in quote."""

    symbol: str
    quantity: Decimal
    average_price: Decimal
    mark_price: Decimal | None

    @property
    def exposure_quote(self) -> Decimal | None:
        """Worth now in quote; None while there is no price."""
        return None if self.mark_price is None else self.quantity * self.mark_price


@dataclass(frozen=True, slots=True)
class Portfolio:
    """What execution knows of the account, filled by execution.selectors.portfolio. None means unknown.

    `reserved_quote` / `reserved_base` are unknown, open and pending orders counted at their worst
    (invariant 4), by symbol, without the proposal under judgement. `free_quote` and `free_base` (by symbol,
    of its base asset) are the exchange's own free amounts. `pending_by_symbol` lists the sides of proposals
    that wait or are approved and not claimed yet. `carried_gain_quote` is the unrealised gain that stood at
    00:00 UTC, 0 where it was a loss: no result of today. `equity_peak_quote` is the highest equity so far, as if all
    deposits and withdrawals until now had been made before it. `loss_streak` counts the last exits that lost,
    back to the first that did not; `last_loss_by_symbol` tells when an exit of each symbol lost last.
    """

    quote_asset: str
    free_quote: Decimal | None
    free_base: dict[str, Decimal]
    equity_quote: Decimal | None
    holdings: dict[str, Holding]
    reserved_quote: dict[str, Decimal]
    reserved_base: dict[str, Decimal]
    open_order_count: int
    open_order_count_by_symbol: dict[str, int]
    unresolved_order_count: int
    realised_today_quote: Decimal | None
    unrealised_quote: Decimal | None
    carried_gain_quote: Decimal | None
    orders_last_minute: int
    orders_last_hour: int
    pending_by_symbol: dict[str, list[str]]
    blocked_symbols: dict[str, str]
    reconciled: bool
    reconciliation_note: str
    clock_offset_ms: int | None
    equity_peak_quote: Decimal | None
    loss_streak: int | None
    last_loss_at: datetime | None
    last_loss_by_symbol: dict[str, datetime]

    @property
    def result_today_quote(self) -> Decimal | None:
        """Won or lost since 00:00 UTC as the rule `daily_loss` reckons it; None while something is unknown."""
        realised, unrealised, carried = (
            self.realised_today_quote,
            self.unrealised_quote,
            self.carried_gain_quote,
        )
        if realised is None or unrealised is None or carried is None:
            return None
        return realised + unrealised - carried


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force (`risk.RiskLimits` row): money in quote, shares in percent of equity, ages in s."""

    version: int
    allowed_symbols: tuple[str, ...]
    approval_threshold_quote: Decimal
    order_notional_max_quote: Decimal
    symbol_exposure_max_pct: Decimal
    gross_exposure_max_pct: Decimal
    open_positions_max: int
    open_orders_max: int
    daily_loss_max_pct: Decimal
    spread_max_bps: Decimal
    price_collar_pct: Decimal
    price_drift_max_pct: Decimal
    quote_age_max_seconds: Decimal
    orders_per_minute_max: int
    orders_per_hour_max: int
    confidence_min_pct: int
    reward_to_risk_min: Decimal
    risk_per_trade_max_pct: Decimal
    fee_rate: Decimal
    approval_ttl_seconds: int
    auto_ttl_seconds: int
    two_person_threshold_quote: Decimal
    volatility_max_pct: Decimal
    drawdown_max_pct: Decimal
    loss_streak_max: int
    loss_streak_pause_seconds: int
    cool_down_seconds: int


@dataclass(frozen=True, slots=True)
class GateInput:
    """Everything the gate may look at, gathered before; None or a missing key means unknown, which denies.

    A binding run judges `order`, the one about to be sent, and holds it against `approved_order`, the one the
    approval binds to; `approvals` says how many people's it was, none for one by rule. An advisory run has
    neither: it forms its order from the proposal's fields.
    """

    now: datetime
    binding: bool
    trading_enabled: bool
    trading_state: TradingState | None
    stage_allows: bool
    limits: Limits | None
    portfolio: Portfolio
    filters: SymbolFilters | None
    quote: Quote | None
    recent_range: PriceRange | None
    feeds_stale: tuple[str, ...]
    autonomy: SeenAutonomy | None
    proposal_id: str
    symbol: str
    action: str
    order_type: str
    time_in_force: str
    quote_amount: Decimal | None
    position_share_pct: int | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    target_price: Decimal | None
    confidence_pct: int | None
    approvals: int = 0
    order: QuantisedOrder | None = None
    approved_order: QuantisedOrder | None = None
