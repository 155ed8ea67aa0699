"""Small exchanges whose market a test moves by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from simulator.decimals import to_units
from simulator.engine.contracts import (
    ListKind,
    ListPlacement,
    ListRequest,
    Order,
    OrderRequest,
    OrderType,
    Placement,
    Side,
    TimeInForce,
)
from simulator.engine.exchange import Exchange
from simulator.engine.instruments import KNOWN_INSTRUMENTS
from simulator.market.candles import MINUTE_MS, RawCandle
from simulator.market.sources import RecordedSource
from simulator.market.tape import SymbolTape, Tick

SYMBOL = "BTCUSDT"
START_MS = 1_677_628_800_000
PRICE = Decimal(20_000)


def flat_exchange(seed: int = 7) -> Exchange:
    """One symbol that stands at 20000 with quotes around it; `move` moves it."""
    instrument = KNOWN_INSTRUMENTS[SYMBOL]
    price = to_units(PRICE)
    candles = [RawCandle(START_MS + n * MINUTE_MS, price, price, price, price, 10**8) for n in range(60)]
    tape = SymbolTape(
        SYMBOL,
        RecordedSource("flat", candles),
        seed,
        to_units(instrument.tick_size),
        to_units(instrument.step_size),
        0,
    )
    tape.skip_to(START_MS + 10 * MINUTE_MS)
    exchange = Exchange([instrument], {SYMBOL: tape}, seed)
    exchange.apply_tick(tape.standing(), 0)
    return exchange


def move(
    exchange: Exchange, price: str, quantity: str = "0", buyer_is_maker: bool = True, now_ms: int = 1_000
) -> None:
    """A tick of the world: a trade of `quantity` at `price`, with new quotes around it."""
    exchange.apply_tick(
        Tick(SYMBOL, now_ms, to_units(Decimal(price)), to_units(Decimal(quantity)), buyer_is_maker, 1), now_ms
    )


def account(exchange: Exchange, name: str = "A", **balances: str) -> int:
    """A new account with free balances, e.g. account(exchange, USDT="1000")."""
    opened = exchange.open_account(f"key-{name}", f"secret-{name}", 0)
    for asset, amount in balances.items():
        exchange.deposit(opened.account_id, asset, Decimal(amount), 0)
    exchange.take_events()
    return opened.account_id


def limit(side: str, price: Any, quantity: Any, tif: str = "GTC", **more: Any) -> OrderRequest:
    return OrderRequest(
        symbol=SYMBOL,
        side=Side(side),
        type=more.pop("type", OrderType.LIMIT),
        client_order_id=more.pop("client_order_id", f"id-{side}-{price}-{quantity}-{tif}"),
        time_in_force=TimeInForce(tif),
        quantity=Decimal(str(quantity)),
        price=Decimal(str(price)),
        **more,
    )


def market(
    side: str, quantity: Any = None, quote: Any = None, client_order_id: str = "market"
) -> OrderRequest:
    return OrderRequest(
        symbol=SYMBOL,
        side=Side(side),
        type=OrderType.MARKET,
        client_order_id=client_order_id,
        quantity=None if quantity is None else Decimal(str(quantity)),
        quote_quantity=None if quote is None else Decimal(str(quote)),
    )


def stop(
    kind: str, side: str, quantity: Any, stop_price: Any = 0, price: Any = 0, tif: str = "GTC", **more: Any
) -> OrderRequest:
    """A STOP_LOSS, STOP_LOSS_LIMIT, TAKE_PROFIT or TAKE_PROFIT_LIMIT."""
    return OrderRequest(
        symbol=SYMBOL,
        side=Side(side),
        type=OrderType(kind),
        client_order_id=more.pop("client_order_id", f"stop-{kind}-{side}-{stop_price}"),
        time_in_force=TimeInForce(tif),
        quantity=None if quantity is None else Decimal(str(quantity)),
        price=Decimal(str(price)),
        stop_price=Decimal(str(stop_price)),
        **more,
    )


def place_list(
    exchange: Exchange, account_id: int, kind: str, *legs: OrderRequest, now_ms: int = 500
) -> ListPlacement:
    request = ListRequest(ListKind(kind), SYMBOL, f"list-{exchange.records.counters['list']}", legs)
    placement = exchange.place_list(account_id, request, now_ms)
    exchange.audit()
    return placement


def legs_now(exchange: Exchange, placement: ListPlacement) -> list[Order]:
    """The legs of a list as the exchange has them now."""
    return exchange.records.legs(exchange.records.lists[placement.order_list.list_id])


def place(exchange: Exchange, account_id: int, request: OrderRequest, now_ms: int = 500) -> Placement:
    placement = exchange.place(account_id, request, now_ms)
    exchange.audit()
    return placement


def stored(exchange: Exchange, placement: Placement) -> Order:
    """The order as the exchange has it now."""
    order = exchange.records.by_id(placement.order.account_id, SYMBOL, placement.order.order_id)
    assert order is not None
    return order


def free(exchange: Exchange, account_id: int, asset: str) -> Decimal:
    return exchange.ledger.balance(account_id, asset).free


def locked(exchange: Exchange, account_id: int, asset: str) -> Decimal:
    return exchange.ledger.balance(account_id, asset).locked
