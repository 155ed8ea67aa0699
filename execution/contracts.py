"""The nouns of execution: intents, orders with their two kinds of state, lifecycle events, divergences.

Errors:
    ExecutionError
    ├── NotSent            the request never left (refused connection, DNS): safe to say `not_placed`
    ├── ExchangeRejected   a definite refusal with Binance's code; nothing was placed
    ├── OutcomeUnknown     anything else: never answered by sending again (invariant 1)
    ├── QueryFailed        a query brought no answer; it changes nothing (invariant 7)
    ├── AnswerRefused      a person's answer does not fit what is known; nothing was changed
    └── Unprotectable      a position cannot be protected on the exchange as it is; the text says why
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol


class ExecutionError(Exception):
    """Base of this app's expected failures."""


class NotSent(ExecutionError):
    """The request never left this machine."""


class ExchangeRejected(ExecutionError):
    """The exchange refused definitely; nothing was placed. `code` is Binance's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class OutcomeUnknown(ExecutionError):
    """Whether the exchange placed the order is not known."""


class QueryFailed(ExecutionError):
    """A query brought no answer. It says nothing about the order."""


class AnswerRefused(ExecutionError):
    """A person's answer was not taken. `code` names the reason, `detail` is the sentence for the person."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Unprotectable(ExecutionError):
    """A position, or an entry, whose protection the exchange would not take."""


class IntentKind(StrEnum):
    """What an intent is for. All but `proposal` act on what an approved proposal opened."""

    PROPOSAL = "proposal"
    PROTECTION = "protection"
    CLOSE = "close"
    REPLACE = "replace"  # the rest of an approved entry at another price


ENTRY_KINDS = (IntentKind.PROPOSAL, IntentKind.REPLACE)


class Role(StrEnum):
    """An order's part in its intent: the order itself (of a list, the working leg), or a leg that protects."""

    ORDER = "order"
    STOP = "stop"
    TARGET = "target"
    CLOSE = "close"


PROTECTIVE_ROLES = (Role.STOP, Role.TARGET)


class ListKind(StrEnum):
    """The order lists that we send (binance.md §2.5); OPO and OPOCO sell exactly what was bought."""

    NONE = ""
    OCO = "OCO"
    OTO = "OTO"
    OTOCO = "OTOCO"
    OPO = "OPO"
    OPOCO = "OPOCO"

    @property
    def pays_onward(self) -> bool:
        """Whether the pending legs take their quantity from what the working leg bought, net of fees."""
        return self in {ListKind.OPO, ListKind.OPOCO}


class OrderStatus(StrEnum):
    """What we know of our request."""

    INTENT = "intent"
    ABORTED = "aborted"
    SUBMITTED = "submitted_to_exchange"
    CONFIRMED = "execution_confirmed"
    UNKNOWN = "execution_unknown"
    REJECTED = "rejected"
    NOT_PLACED = "not_placed"
    MANUAL_REVIEW = "manual_review_required"


O = OrderStatus  # noqa: E741
TRANSITIONS: dict[str, frozenset[str]] = {
    O.INTENT: frozenset({O.ABORTED, O.SUBMITTED}),
    O.ABORTED: frozenset({O.CONFIRMED}),
    O.SUBMITTED: frozenset({O.CONFIRMED, O.UNKNOWN, O.REJECTED, O.NOT_PLACED}),
    O.CONFIRMED: frozenset(),
    O.UNKNOWN: frozenset({O.CONFIRMED, O.NOT_PLACED, O.MANUAL_REVIEW}),
    # The exchange's record beats every conclusion of ours: an order that turns up after all is confirmed.
    O.REJECTED: frozenset({O.CONFIRMED}),
    O.NOT_PLACED: frozenset({O.CONFIRMED}),
    O.MANUAL_REVIEW: frozenset({O.CONFIRMED, O.NOT_PLACED, O.UNKNOWN}),
}
# What we concluded without the order; a report of it overturns them.
CONCLUDED_WITHOUT = frozenset({O.ABORTED, O.REJECTED, O.NOT_PLACED})
# What a person may answer for.
REVIEWABLE = frozenset({O.UNKNOWN, O.MANUAL_REVIEW})
UNRESOLVED = frozenset({O.INTENT, O.SUBMITTED, O.UNKNOWN, O.MANUAL_REVIEW})


class CancelStatus(StrEnum):
    """What we know of a request to cancel. It never decides about an order: the order's own record does."""

    INTENT = "intent"
    ABORTED = "aborted"
    SENT = "sent"
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


C = CancelStatus
CANCEL_TRANSITIONS: dict[str, frozenset[str]] = {
    C.INTENT: frozenset({C.ABORTED, C.SENT}),
    C.ABORTED: frozenset(),
    C.SENT: frozenset({C.DONE, C.REFUSED, C.UNKNOWN}),
    C.DONE: frozenset(),
    # Refused: not open there (filled, cancelled before) or not executed; another request may follow.
    C.REFUSED: frozenset(),
    C.UNKNOWN: frozenset({C.DONE, C.REFUSED}),
}
CANCEL_UNRESOLVED = frozenset({C.INTENT, C.SENT, C.UNKNOWN})


class ExchangeStatus(StrEnum):
    """The exchange's own status, folded from lifecycle events (binance.md §7, `X`)."""

    NONE = ""
    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


TERMINAL = frozenset(
    {
        ExchangeStatus.FILLED,
        ExchangeStatus.CANCELED,
        ExchangeStatus.REJECTED,
        ExchangeStatus.EXPIRED,
        ExchangeStatus.EXPIRED_IN_MATCH,
    }
)


class LifecycleKind(StrEnum):
    """`OrderLifecycleEvent` kinds."""

    SUBMITTED = "submitted"
    ACK = "ack"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Where a report came from; all three feed the same fold."""

    REST = "rest"
    STREAM = "stream"
    POLL = "poll"
    LOCAL = "local"


class DivergenceKind(StrEnum):
    ORDER_MISSING_HERE = "order_missing_here"
    ORDER_MISSING_THERE = "order_missing_there"
    STATUS = "status"
    FILL = "fill"
    FEE = "fee"
    BALANCE = "balance"
    FOREIGN_ORDER = "foreign_order"
    ENVIRONMENT_RESET = "environment_reset"


class Outcome(StrEnum):
    """How a divergence was closed."""

    POSTED = "posted"  # the exchange's record was applied at once
    GONE = "gone"  # no longer observed
    ADOPTED = "adopted"
    CANCELLED = "cancelled"
    IGNORED = "ignored"
    RESET = "reset"  # a reset of the environment was accepted


class Decision(StrEnum):
    """What a person may decide on a divergence without asking the exchange."""

    ADOPT = "adopt"
    IGNORE = "ignore"


class RequestKind(StrEnum):
    """What a person may ask of a trading worker."""

    CONFIRM_FILLED = "confirm_filled"
    CONFIRM_ABSENT = "confirm_absent"
    ADOPT_ORDER = "adopt_order"
    CANCEL_ORDER = "cancel_order"
    CANCEL_OWN = "cancel_own"
    CLOSE_POSITION = "close_position"
    REPLACE_OWN = "replace_own"


@dataclass(frozen=True, slots=True)
class FillReport:
    """One trade of an order as the exchange tells it; `commission` in `commission_asset`."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    is_maker: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the exchange said of one order, from whatever source; `exchange_order_id` is unique per symbol.

    `event_key` identifies the report so that it is stored once (execution id, or status and quantity).
    """

    symbol: str
    client_order_id: str
    exchange_order_id: int
    status: ExchangeStatus
    side: str
    order_type: str
    quantity: Decimal
    price: Decimal
    executed_quantity: Decimal
    cumulative_quote: Decimal
    at: datetime
    source: Source
    event_key: str
    fills: tuple[FillReport, ...]
    raw: dict[str, Any]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlannedLeg:
    """One order that a request will place; `price` is the limit, `trigger_price` that of a stop."""

    role: Role
    client_order_id: str
    side: str
    order_type: str
    quantity: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A request to place orders, wholly determined: where it goes, what it says, what it comes to."""

    endpoint: str
    list_kind: ListKind
    list_client_order_id: str
    parameters: dict[str, str]
    legs: tuple[PlannedLeg, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """Free and locked amounts of one asset on the exchange."""

    asset: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        """Free plus locked."""
        return self.free + self.locked


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What is sent: parameters as plain text, the signed timestamp fixed at the claim (invariant 8)."""

    symbol: str
    client_order_id: str
    parameters: dict[str, str]
    timestamp_ms: int
    recv_window_ms: int
    endpoint: str = "order"


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed success with the hashes of its canonical request and of its response (invariant 11).

    One report for each order: of an order list, for each leg.
    """

    reports: tuple[OrderReport, ...]
    request_sha256: str
    response_sha256: str


class ExchangeGateway(Protocol):
    """The port to the exchange. Queries raise QueryFailed; `None` is the exchange's own "does not exist"."""

    def place_order(self, request: OrderRequest) -> Answer:
        """Send once. Raises NotSent, ExchangeRejected or OutcomeUnknown."""

    def cancel(self, request: OrderRequest) -> Answer:
        """Cancel an order or a list, once: a report of each order that it ended.

        Raises NotSent, ExchangeRejected (-2011: not open there) or OutcomeUnknown.
        """

    def find_order(self, *, symbol: str, client_order_id: str) -> OrderReport | None:
        """The order with our id, or None for -2013."""

    def find_list(self, *, list_client_order_id: str) -> Sequence[OrderReport] | None:
        """The legs of our order list, as far as the list tells of them, or None for -2013."""

    def open_lists(self) -> Sequence[OrderReport]:
        """The legs of all open order lists, as far as the lists tell of them."""

    def open_orders(self, *, symbol: str) -> Sequence[OrderReport]:
        """Open orders of a symbol."""

    def orders_since(self, *, symbol: str, since: datetime) -> Sequence[OrderReport]:
        """All orders of a symbol created since `since`."""

    def trades(
        self, *, symbol: str, from_trade_id: int | None, since: datetime | None
    ) -> Sequence[tuple[int, FillReport]]:
        """(exchange order id, trade) in ascending order of trade id, all pages."""

    def balances(self) -> Sequence[Balance]:
        """All balances that are not zero."""

    def test_order(self, *, parameters: dict[str, str]) -> None:
        """Let the exchange test a plain order; nothing is placed. Raises ExchangeRejected or QueryFailed."""

    def cancel_foreign_order(self, *, symbol: str, exchange_order_id: int) -> OrderReport:
        """Cancel an order that is not ours, once. Raises NotSent, ExchangeRejected or OutcomeUnknown."""

    def measure_clock_offset_ms(self) -> int:
        """Server time minus ours, in milliseconds, taken at the middle of the round trip."""
