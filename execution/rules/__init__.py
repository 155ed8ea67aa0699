"""Pure verbs of execution: ids, parameters, parsing of reports, classes of failure, the fold, positions."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from execution.contracts import (
    TERMINAL,
    Balance,
    ExchangeRejected,
    ExchangeStatus,
    FillReport,
    LifecycleKind,
    OrderReport,
    OutcomeUnknown,
    Source,
)
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import ZERO, plain

CLIENT_ID_LENGTH_MAX = 36


def client_order_id(environment: str, proposal_id: UUID) -> str:
    """The `clientOrderId` of a proposal's one order: the same however often it is computed, never reused.

    Form `tb<environment's first letter>-<proposal id in base32>`, 30 of the 36 characters that Binance
    allows (`^[a-zA-Z0-9-_]{1,36}$`), so that legs of an order list can be told apart by a suffix.
    """
    return f"tb{environment[0]}-{base64.b32encode(proposal_id.bytes).decode().rstrip('=').lower()}"


def leg_id(base: str, suffix: str) -> str:
    """The id of a list ("l"), a leg or an attempt; never more than Binance's 36 characters."""
    if len(base + suffix) > CLIENT_ID_LENGTH_MAX:
        raise ValueError(f"the client order id {base}{suffix} is too long")
    return base + suffix


# --- classes of failure (binance.md §4) -----------------------------------------------------------------

# Definite refusals: nothing was placed. Whatever is not listed here leaves the outcome unknown.
REJECT_CODES = frozenset(
    {-1002, -1003, -1013, -1014, -1015, -1020, -1021, -1022, -1034, -1145, -1210, -1211, -2010, -2011, -2014}
    | {-2015, -2039}
    | set(range(-1139, -1099))
    | set(range(-1168, -1157))
    | set(range(-1199, -1195))
    | set(range(-1225, -1219))
)
DUPLICATE_TEXT = "duplicate order sent"


def classify_refusal(http_status: int, code: int | None, message: str) -> ExchangeRejected | OutcomeUnknown:
    """What an HTTP error answer to a place request means: definitely nothing placed, or unknown.

    By HTTP status first (5xx: unknown, rest-api.md "HTTP Return Codes"; 403 is the firewall, which answers
    without a code), then by code, then by message: -2010 "Duplicate order sent." says that an order with our
    id is open, so it is no refusal of ours. A code that the table lacks is unknown (the stricter reading).
    """
    if http_status >= 500 or http_status in {403, 408} or code not in REJECT_CODES:
        return OutcomeUnknown(f"HTTP {http_status}, code {code}: {message:.200}")
    if DUPLICATE_TEXT in message.lower():
        return OutcomeUnknown(f"code {code}: {message:.200}")
    return ExchangeRejected(code, message[:200])


# --- parsing --------------------------------------------------------------------------------------------


class MalformedReport(ValueError):
    """A report of the exchange lacks a field or has it in another form."""


def _event_key(exchange_order_id: int, status: str, executed: Decimal) -> str:
    """The same happening told by REST, stream and poll has one key, so it is stored once."""
    return f"{exchange_order_id}:{status}:{plain(executed)}"


def _fill_of_rest(fill: Mapping[str, Any], at_ms: int) -> FillReport:
    price, quantity = Decimal(fill["price"]), Decimal(fill["qty"])
    return FillReport(
        trade_id=int(fill["tradeId"]),
        price=price,
        quantity=quantity,
        quote_quantity=price * quantity,
        commission=Decimal(fill["commission"]),
        commission_asset=fill["commissionAsset"],
        is_maker=False,
        at=from_milliseconds(at_ms),
    )


def report_of_rest(payload: Mapping[str, Any], source: Source) -> OrderReport:
    """An answer of POST or GET /api/v3/order, or a row of openOrders and allOrders."""
    try:
        at_ms = int(payload.get("transactTime") or payload.get("updateTime") or payload["time"])
        executed = Decimal(payload["executedQty"])
        status = ExchangeStatus(payload["status"])
        if not isinstance(payload["clientOrderId"], str):
            raise TypeError("clientOrderId")
        return OrderReport(
            symbol=payload["symbol"],
            client_order_id=payload["clientOrderId"],
            exchange_order_id=int(payload["orderId"]),
            status=status,
            side=payload["side"],
            order_type=payload["type"],
            quantity=Decimal(payload["origQty"]),
            price=Decimal(payload["price"]),
            executed_quantity=executed,
            cumulative_quote=Decimal(payload["cummulativeQuoteQty"]),
            at=from_milliseconds(at_ms),
            source=source,
            event_key=_event_key(int(payload["orderId"]), status.value, executed),
            fills=tuple(_fill_of_rest(f, at_ms) for f in payload.get("fills") or ()),
            raw=dict(payload),
            reason=str(payload.get("expiryReason") or ""),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
        raise MalformedReport(f"order report: {type(error).__name__} {error}") from error


def report_of_cancel(payload: Mapping[str, Any]) -> OrderReport:
    """A cancelled order in the answer of a cancel: our id is in `origClientOrderId` (binance.md §2.4)."""
    return report_of_rest({**payload, "clientOrderId": payload.get("origClientOrderId")}, Source.REST)


def _fill_of_event(event: Mapping[str, Any]) -> tuple[FillReport, ...]:
    if event["x"] != "TRADE":
        return ()
    price, quantity = Decimal(event["L"]), Decimal(event["l"])
    return (
        FillReport(
            trade_id=int(event["t"]),
            price=price,
            quantity=quantity,
            quote_quantity=Decimal(event["Y"]),
            commission=Decimal(event["n"] or "0"),
            commission_asset=event["N"] or "",
            is_maker=bool(event["m"]),
            at=from_milliseconds(int(event["T"])),
        ),
    )


def report_of_event(event: Mapping[str, Any]) -> OrderReport:
    """An `executionReport` of the user-data stream (binance.md §7). On CANCELED our id is in `C`, not `c`."""
    try:
        executed = Decimal(event["z"])
        status = ExchangeStatus(event["X"])
        return OrderReport(
            symbol=event["s"],
            client_order_id=event["C"] or event["c"],
            exchange_order_id=int(event["i"]),
            status=status,
            side=event["S"],
            order_type=event["o"],
            quantity=Decimal(event["q"]),
            price=Decimal(event["p"]),
            executed_quantity=executed,
            cumulative_quote=Decimal(event["Z"]),
            at=from_milliseconds(int(event["T"])),
            source=Source.STREAM,
            event_key=_event_key(int(event["i"]), status.value, executed),
            fills=_fill_of_event(event),
            raw=dict(event),
            reason=str(event.get("eR") or ("" if event["r"] == "NONE" else event["r"])),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
        raise MalformedReport(f"executionReport: {type(error).__name__} {error}") from error


def trade_of_rest(row: Mapping[str, Any]) -> tuple[int, FillReport]:
    """A row of GET /api/v3/myTrades: (exchange order id, fill)."""
    try:
        return int(row["orderId"]), FillReport(
            trade_id=int(row["id"]),
            price=Decimal(row["price"]),
            quantity=Decimal(row["qty"]),
            quote_quantity=Decimal(row["quoteQty"]),
            commission=Decimal(row["commission"]),
            commission_asset=row["commissionAsset"],
            is_maker=bool(row["isMaker"]),
            at=from_milliseconds(int(row["time"])),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
        raise MalformedReport(f"trade: {type(error).__name__} {error}") from error


def balances_of_rest(payload: Mapping[str, Any]) -> list[Balance]:
    """The balances of GET /api/v3/account that are not zero."""
    try:
        rows = [Balance(b["asset"], Decimal(b["free"]), Decimal(b["locked"])) for b in payload["balances"]]
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
        raise MalformedReport(f"account: {type(error).__name__} {error}") from error
    return [b for b in rows if b.total != 0]


# --- the fold -------------------------------------------------------------------------------------------

KIND_OF_STATUS: dict[ExchangeStatus, LifecycleKind] = {
    ExchangeStatus.PENDING_NEW: LifecycleKind.ACK,
    ExchangeStatus.NEW: LifecycleKind.ACK,
    ExchangeStatus.PARTIALLY_FILLED: LifecycleKind.PARTIALLY_FILLED,
    ExchangeStatus.FILLED: LifecycleKind.FILLED,
    ExchangeStatus.CANCELED: LifecycleKind.CANCELED,
    ExchangeStatus.REJECTED: LifecycleKind.REJECTED,
    ExchangeStatus.EXPIRED: LifecycleKind.EXPIRED,
    ExchangeStatus.EXPIRED_IN_MATCH: LifecycleKind.EXPIRED,
}
_RANK: dict[str, int] = {
    ExchangeStatus.NONE: 0,
    ExchangeStatus.PENDING_NEW: 1,
    ExchangeStatus.NEW: 2,
    ExchangeStatus.PARTIALLY_FILLED: 3,
    ExchangeStatus.REJECTED: 4,
    ExchangeStatus.EXPIRED: 4,
    ExchangeStatus.EXPIRED_IN_MATCH: 4,
    ExchangeStatus.CANCELED: 4,
    ExchangeStatus.FILLED: 5,
}


@dataclass(frozen=True, slots=True)
class FoldedState:
    """What all reports of an order come to: status, executed base quantity, quote spent or received."""

    status: ExchangeStatus
    executed_quantity: Decimal
    cumulative_quote: Decimal

    @property
    def is_terminal(self) -> bool:
        """Nothing more is expected of the order."""
        return self.status in TERMINAL


def fold(state: FoldedState, report: OrderReport) -> FoldedState:
    """Merge a report into a state: monotone in executed quantity, terminal beats open, never by arrival.

    So any order of any number of reports comes to one outcome (reference/reliability.md §2.2). A fill after
    a cancel is real: the quantity still rises while the status stays terminal.
    """
    status = report.status if _RANK[report.status] >= _RANK[state.status] else state.status
    if _RANK[report.status] == _RANK[state.status] == 4:
        status = max(state.status, report.status)  # two terminal words for one end: pick one for all orders
    further = report.executed_quantity >= state.executed_quantity
    return FoldedState(
        status=status,
        executed_quantity=report.executed_quantity if further else state.executed_quantity,
        cumulative_quote=max(report.cumulative_quote, state.cumulative_quote),
    )


def is_further(seen: str, told: ExchangeStatus) -> bool:
    """Whether `told` is a later stage of an order's life than `seen`."""
    return _RANK[told] > _RANK[seen]


def remaining_share(quantity: Decimal, state: FoldedState) -> Decimal:
    """The share of an order that may still execute, 0 to 1: what its reservation is scaled by."""
    if state.is_terminal or quantity <= 0:
        return ZERO
    return max(ZERO, (quantity - state.executed_quantity) / quantity)


# --- the saga of an unknown order -----------------------------------------------------------------------

ABSENT_ANSWERS_MIN = 3
SKEW_MS = 1000
PROBE_DELAYS_SECONDS = (2, 4, 8, 15, 30)


def conclusive_instant_ms(*, timestamp_ms: int, recv_window_ms: int) -> int:
    """Server time after which the exchange itself refuses the signed request (invariant 8)."""
    return timestamp_ms + recv_window_ms + SKEW_MS


def probe_delay_seconds(probes_so_far: int) -> int:
    """Back-off of the saga's questions: 2, 4, 8, 15, then every 30 s."""
    return PROBE_DELAYS_SECONDS[min(probes_so_far, len(PROBE_DELAYS_SECONDS) - 1)]


def may_conclude_absent(
    *, absent_answers_after_instant: int, seconds_since_instant: float, grace_seconds: float
) -> bool:
    """Whether "does not exist" counts as proof: asked often enough, for long enough, after the instant."""
    return absent_answers_after_instant >= ABSENT_ANSWERS_MIN and seconds_since_instant >= grace_seconds
