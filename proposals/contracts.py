"""The nouns of proposing and approving: TradeProposal, statuses with their literal table, refusals.

Errors:
    ProposalError
    ├── MalformedAnswer     the model's answer is not one valid TradeProposal (-> NO_TRADE, with the reason)
    ├── DecisionRefused     approve, reject or claim cannot be done; `code` says why, the text what to do
    └── AdvisorUnavailable  time-out, refusal, open breaker, spent budget (-> NO_TRADE, with the reason)
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ProposalError(Exception):
    """Base of this app's expected failures."""


class MalformedAnswer(ProposalError):
    """The answer is not one valid TradeProposal; `code` is the reason kept on the decision."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class AdvisorUnavailable(ProposalError):
    """No answer could be had; `code` is the reason kept on the decision.

    `transient`: asking once more may help. `retry_after_seconds`: when the server said to come back.
    """

    def __init__(
        self, code: str, detail: str, *, transient: bool = False, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail
        self.transient, self.retry_after_seconds = transient, retry_after_seconds


class DecisionRefused(ProposalError):
    """An approval, a rejection or a claim that cannot be done. Nothing was changed."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


# A request for a decision that no worker took up in this time lapses: the person looked at another market.
REQUEST_WAITS_SECONDS_MAX = 120

# How old a card may be when it decides: the socket brings a new one every 5 s at least, a hold takes one.
SHOWN_SECONDS_MAX = 10


class ModelApi(StrEnum):
    """How a model is asked. Local servers speak Chat Completions; Responses where it is offered."""

    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"


class Action(StrEnum):
    BUY = "BUY"
    SELL = "SELL"
    NO_TRADE = "NO_TRADE"


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class ProposalStatus(StrEnum):
    PROPOSED = "proposed"
    NO_TRADE = "no_trade"
    RISK_REJECTED = "risk_rejected"
    VALIDATED = "validated"
    AUTO_APPROVED = "auto_approved"
    PENDING_APPROVAL = "pending_approval"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SHADOW = "shadow"


class Fate(StrEnum):
    """What became of a proposal, for the scoreboard. `ordered`: claimed; whatever is in shadow is shadow."""

    ORDERED = "ordered"
    REJECTED = "rejected"
    EXPIRED = "expired"
    REFUSED = "refused"
    SHADOW = "shadow"
    WAITING = "waiting"


S = ProposalStatus
TRANSITIONS: dict[str, frozenset[str]] = {
    S.PROPOSED: frozenset({S.NO_TRADE, S.RISK_REJECTED, S.VALIDATED, S.EXPIRED}),
    S.NO_TRADE: frozenset(),
    S.RISK_REJECTED: frozenset(),
    # What a shadow strategy proposed ends where another's would be queued.
    S.VALIDATED: frozenset({S.AUTO_APPROVED, S.PENDING_APPROVAL, S.SHADOW}),
    # An approved proposal that is claimed keeps its status (`claimed_at` is set, an ExecutionIntent exists);
    # one that is not claimed in time expires.
    S.AUTO_APPROVED: frozenset({S.EXPIRED}),
    S.PENDING_APPROVAL: frozenset({S.APPROVED, S.REJECTED, S.EXPIRED}),
    S.APPROVED: frozenset({S.EXPIRED}),
    S.REJECTED: frozenset(),
    S.EXPIRED: frozenset(),
    S.SHADOW: frozenset(),
}
APPROVED_STATUSES = frozenset({S.AUTO_APPROVED, S.APPROVED})

DECIMAL_TEXT = r"^[0-9]{1,12}(\.[0-9]{1,8})?$"
REASONS_LENGTH_MAX = 1000
FACTS_MAX = 12
ANSWER_LENGTH_MAX = 20_000
BODY_BYTES_MAX = 200_000
COMPLETION_TOKENS_MAX = 8192  # room for models that think first; their thoughts count too


class StatedFact(BaseModel):
    """A snapshot value that the model says it relied on; checked against the snapshot."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str = Field(max_length=48)
    value: str = Field(max_length=40)


class TradeProposal(BaseModel):
    """The model's only output. Order of fields is the order of generation: evidence before action.

    `quote_amount` sizes a BUY in quote asset, `position_share_pct` a SELL in percent of the position held;
    both are requests that the gate may only refuse or shrink.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    schema_version: Literal["1"]
    snapshot_id: str = Field(max_length=36)
    symbol: str = Field(max_length=32)
    facts: list[StatedFact] = Field(min_length=1, max_length=FACTS_MAX)
    reasons: str = Field(max_length=4 * REASONS_LENGTH_MAX)
    action: Literal["BUY", "SELL", "NO_TRADE"]
    no_trade_reason: Literal["NO_EDGE", "CONFLICT", "STALE_DATA", "RISK", "COOLDOWN"] | None
    order_type: Literal["LIMIT", "MARKET"] | None
    time_in_force: Literal["GTC", "IOC", "FOK"] | None
    limit_price: str | None = Field(pattern=DECIMAL_TEXT)
    stop_price: str | None = Field(pattern=DECIMAL_TEXT)
    target_price: str | None = Field(pattern=DECIMAL_TEXT)
    quote_amount: str | None = Field(pattern=DECIMAL_TEXT)
    position_share_pct: int | None = Field(ge=1, le=100)
    confidence_pct: int = Field(ge=0, le=100)
    valid_for_seconds: int = Field(ge=30, le=900)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over the wire, before anybody judged it. `truncated`: longer than BODY_BYTES_MAX."""

    body: str
    truncated: bool
    request_id: str
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The one choice of a Chat Completions body, or the one message of a Responses body.

    Tokens are None where the server does not count them.
    """

    text: str
    refusal: str
    finish_reason: str
    model_answered: str
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class HeldPosition:
    """A position as the advisor is told of it; `is_protected`: orders on the exchange cover all of it."""

    quantity: Decimal
    average_price: Decimal
    stop_price: Decimal | None
    target_price: Decimal | None
    opened_at: datetime | None
    is_protected: bool | None = None


@dataclass(frozen=True, slots=True)
class AdvisorAccount:
    """What the advisor is told of the account. Filled by the app named in `settings.ADVISOR_ACCOUNT`
    (a function of symbol and now), because money and limits are known to apps on the right only. `position` is
    that of the symbol; `other_positions` are by symbol."""

    free_quote: Decimal | None
    free_base: Decimal | None
    position: HeldPosition | None
    limits_remaining: dict[str, str]
    other_positions: dict[str, HeldPosition] = field(default_factory=dict)


class QuantisedOrder(BaseModel):
    """The order a proposal comes to after the gate's rounding: exactly what an approval binds to.

    `quantity` in base; `price` is the limit, None for MARKET; `worst_price` bounds the cost of either;
    `notional_quote` = quantity x worst_price; `fee_quote` the commission expected at most.
    """

    model_config = ConfigDict(frozen=True)
    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce | None
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    target_price: Decimal | None
    reference_price: Decimal
    worst_price: Decimal
    notional_quote: Decimal
    fee_quote: Decimal
