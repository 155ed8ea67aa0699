"""Nouns of the engine: what accounts send, what it keeps and what it tells."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from enum import StrEnum
from operator import attrgetter

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
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"

    @property
    def is_stop(self) -> bool:
        """Waits for its trigger; an "algo" order in the words of the filters."""
        return self in STOP_TYPES

    @property
    def has_price(self) -> bool:
        return self not in MARKET_TYPES

    @property
    def is_take_profit(self) -> bool:
        return self in (OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)


STOP_TYPES = frozenset(
    {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
)
MARKET_TYPES = frozenset({OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT})


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    NEW = "NEW"
    PENDING_NEW = "PENDING_NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


OPEN_STATUSES = frozenset({OrderStatus.NEW, OrderStatus.PENDING_NEW, OrderStatus.PARTIALLY_FILLED})


class SelfTradePrevention(StrEnum):
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    DECREMENT = "DECREMENT"
    TRANSFER = "TRANSFER"
    """Like DECREMENT here: what it adds only concerns accounts of one trade group, and there are none."""


class Execution(StrEnum):
    """`x` of an executionReport."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    EXPIRED = "EXPIRED"
    TRADE_PREVENTION = "TRADE_PREVENTION"


class ExpiryReason(StrEnum):
    """`eR` of an executionReport, `expiryReason` of an order."""

    UNFILLED_IOC = "UNFILLED_IOC_QUANTITY_EXPIRED"
    UNFILLED_FOK = "UNFILLED_FOK_ORDER_EXPIRED"
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"
    REJECTED = "REJECTED"
    OCO_TRIGGER = "OCO_TRIGGER"
    OTO_PHASE_ONE_EXPIRED = "OTO_PHASE_ONE_EXPIRED"
    EXCHANGE_CANCELED = "EXCHANGE_CANCELED"


class ListKind(StrEnum):
    """What sort of order list it is; on the wire there are only the contingency types OCO and OTO."""

    OCO = "OCO"
    OTO = "OTO"
    OTOCO = "OTOCO"
    OPO = "OPO"
    OPOCO = "OPOCO"

    @property
    def contingency(self) -> str:
        return "OCO" if self is ListKind.OCO else "OTO"

    @property
    def has_pair(self) -> bool:
        """Two of its legs exclude each other."""
        return self in (ListKind.OCO, ListKind.OTOCO, ListKind.OPOCO)

    @property
    def pays_onward(self) -> bool:
        """The pending legs sell what the working leg bought."""
        return self in (ListKind.OPO, ListKind.OPOCO)


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
    stop_price: Decimal = ZERO
    trailing_delta: int = 0
    iceberg_quantity: Decimal = ZERO
    strategy_id: int | None = None
    strategy_type: int | None = None


@dataclass(slots=True, frozen=True)
class ListRequest:
    """A new order list: the working leg first (none of an OCO), then the one or two contingent legs.

    The pending legs of OPO and OPOCO have no quantity.
    """

    kind: ListKind
    symbol: str
    client_order_id: str
    legs: tuple[OrderRequest, ...]


@dataclass(slots=True)
class Order:
    """An accepted order. `locked` is what it still holds of `locked_asset` in its owner's locked balance.

    `is_working` is false until a stop has triggered or a pending leg was placed; `working_ms` is then -1.
    `trail_price` is the extreme that a trailing stop has seen, 0 before it follows. `slice_left` is what an
    iceberg still shows, `priority` its place in the queue of its price.
    """

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
    reject_reason: str = "NONE"
    is_working: bool = True
    list_id: int = -1
    stop_price: Decimal = ZERO
    trailing_delta: int = 0
    trailing_ms: int = -1
    trail_price: Decimal = ZERO
    iceberg_quantity: Decimal = ZERO
    slice_left: Decimal = ZERO
    priority: int = 0
    prevented: Decimal = ZERO
    prevented_match_id: int = -1
    strategy_id: int | None = None
    strategy_type: int | None = None

    def __copy__(self) -> Order:
        # Every event holds a copy; what `copy` does by itself takes five times as long.
        return Order(*_values_of(self))

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed - self.prevented

    @property
    def visible(self) -> Decimal:
        """What the book shows of it."""
        return min(self.slice_left, self.remaining) if self.iceberg_quantity else self.remaining

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def triggers_above(self) -> bool:
        """A stop that waits for the price to rise: STOP_LOSS BUY and TAKE_PROFIT SELL (binance.md §2.4)."""
        return (self.side is Side.BUY) != self.type.is_take_profit


_values_of = attrgetter(*(each.name for each in fields(Order)))


@dataclass(slots=True)
class OrderList:
    """Orders that depend on each other. `working_id` is the first leg of an OTO kind, -1 in an OCO.

    `is_active`: the contingent legs have been placed (always true for an OCO).
    """

    list_id: int
    account_id: int
    symbol: str
    kind: ListKind
    client_order_id: str
    order_ids: list[int]
    created_ms: int
    updated_ms: int
    working_id: int = -1
    is_active: bool = False
    is_done: bool = False


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
    list_id: int = -1


@dataclass(slots=True, frozen=True)
class PreventedMatch:
    """Two orders of one account that would have traded. `taker_quantity` and `maker_quantity` are what the
    mode took from them, None where it left an order alone."""

    symbol: str
    match_id: int
    account_id: int
    taker_order_id: int
    maker_order_id: int
    mode: SelfTradePrevention
    price: Decimal
    taker_quantity: Decimal | None
    maker_quantity: Decimal | None
    time_ms: int


@dataclass(slots=True, frozen=True)
class Amendment:
    """An order that was made smaller in its place."""

    symbol: str
    order_id: int
    execution_id: int
    client_order_id_before: str
    client_order_id: str
    quantity_before: Decimal
    quantity: Decimal
    time_ms: int


class KeyType(StrEnum):
    HMAC = "HMAC"
    RSA = "RSA"
    ED25519 = "ED25519"


@dataclass(slots=True)
class Balance:
    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True)
class Account:
    """One client. The secret lives in the state file of a simulator and opens nothing else.

    `secret_key` is the PEM text of the public key for RSA and ED25519 keys. `pays_in_bnb` takes commission in
    BNB, at a discount, as long as the account has some.
    """

    account_id: int
    api_key: str
    secret_key: str
    created_ms: int
    updated_ms: int
    balances: dict[str, Balance] = field(default_factory=dict)
    key_type: KeyType = KeyType.HMAC
    pays_in_bnb: bool = False


@dataclass(slots=True, frozen=True)
class OrderEvent:
    """An executionReport: a copy of the order as it was at that instant, and the fill, or the prevented match,
    if it was one."""

    account_id: int
    execution: Execution
    execution_id: int
    order: Order
    time_ms: int
    trade: Trade | None = None
    cancel_client_order_id: str = ""
    prevented: PreventedMatch | None = None


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


@dataclass(slots=True, frozen=True)
class ListEvent:
    """A listStatus: `orders` are (orderId, clientOrderId); `renamed` tells that one of them has another id."""

    account_id: int
    order_list: OrderList
    orders: tuple[tuple[int, str], ...]
    time_ms: int
    renamed: bool = False


AccountEvent = OrderEvent | PositionEvent | DepositEvent | ListEvent


@dataclass(slots=True, frozen=True)
class Placement:
    """What a place command did: the order afterwards and its fills in order."""

    order: Order
    trades: list[Trade]


@dataclass(slots=True, frozen=True)
class ListPlacement:
    """What a list command did: the list, copies of its legs, and their fills."""

    order_list: OrderList
    orders: list[Order]
    trades: list[Trade]
