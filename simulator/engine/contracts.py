"""Nouns of the engine: what accounts send, what it keeps and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from simulator.decimals import ZERO


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIMIT_MAKER = "LIMIT_MAKER"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


OPEN_STATUSES = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class SelfTradePrevention(StrEnum):
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class Execution(StrEnum):
    """`x` of an executionReport."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    TRADE_PREVENTION = "TRADE_PREVENTION"


class ExpiryReason(StrEnum):
    """`eR` of an executionReport, `expiryReason` of an order."""

    UNFILLED_IOC = "UNFILLED_IOC_QUANTITY_EXPIRED"
    UNFILLED_FOK = "UNFILLED_FOK_ORDER_EXPIRED"
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"


@dataclass(slots=True, frozen=True)
class OrderRequest:
    """A new order whose parameters have been parsed; exactly the fields that its type needs are set."""

    symbol: str
    side: Side
    type: OrderType
    client_order_id: str
    time_in_force: TimeInForce = TimeInForce.GTC
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal = ZERO
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.EXPIRE_MAKER


@dataclass(slots=True)
class Order:
    """An accepted order. `locked` is what it still holds of `locked_asset` in its owner's locked balance."""

    symbol: str
    order_id: int
    account_id: int
    client_order_id: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    self_trade_prevention: SelfTradePrevention
    locked_asset: str
    created_ms: int
    updated_ms: int
    working_ms: int
    locked: Decimal = ZERO
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    status: OrderStatus = OrderStatus.NEW
    expiry_reason: ExpiryReason | None = None

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES


@dataclass(slots=True, frozen=True)
class Trade:
    """One account's side of a fill."""

    symbol: str
    trade_id: int
    order_id: int
    account_id: int
    side: Side
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    time_ms: int
    is_maker: bool


@dataclass(slots=True)
class Balance:
    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True)
class Account:
    """One client. The secret lives in the state file of a simulator and opens nothing else."""

    account_id: int
    api_key: str
    secret_key: str
    created_ms: int
    updated_ms: int
    balances: dict[str, Balance] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class OrderEvent:
    """An executionReport: a copy of the order as it was at that instant, and the fill if it was one."""

    account_id: int
    execution: Execution
    execution_id: int
    order: Order
    time_ms: int
    trade: Trade | None = None
    cancel_client_order_id: str = ""


@dataclass(slots=True, frozen=True)
class PositionEvent:
    """An outboundAccountPosition: absolute balances of the assets that a command touched."""

    account_id: int
    balances: dict[str, tuple[Decimal, Decimal]]
    time_ms: int


@dataclass(slots=True, frozen=True)
class DepositEvent:
    """A balanceUpdate: money came from, or went to, outside the exchange."""

    account_id: int
    asset: str
    amount: Decimal
    time_ms: int


AccountEvent = OrderEvent | PositionEvent | DepositEvent


@dataclass(slots=True, frozen=True)
class Placement:
    """What a place command did: the order afterwards and its fills in order."""

    order: Order
    trades: list[Trade]
