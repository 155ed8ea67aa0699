"""The symbol's rules that can be checked without the book: -1013 with Binance's texts (binance.md §5)."""

from __future__ import annotations

from decimal import Decimal

from simulator.decimals import ZERO, decimals_of
from simulator.engine.contracts import OrderRequest, OrderType
from simulator.engine.errors import ExchangeError, filter_failure, too_precise
from simulator.engine.instruments import Instrument

ASSET_DECIMALS = 8


def check_static(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    """Raise ExchangeError for the first filter that `request` breaks.

    `average_price` is the volume-weighted price over the symbol's avgPriceMins, the reference of
    PERCENT_PRICE_BY_SIDE and of NOTIONAL for MARKET orders.
    """
    for name, value in (("quantity", request.quantity), ("quoteOrderQty", request.quote_quantity)):
        if value is not None:
            if decimals_of(value) > ASSET_DECIMALS:
                raise too_precise(name)
            if value <= ZERO:
                raise ExchangeError(
                    -1013, "Invalid quantity." if name == "quantity" else "Invalid quote order quantity."
                )
    if request.type is not OrderType.MARKET:
        _check_price(request, instrument, average_price)
    if request.quantity is not None:
        _check_lot(request.quantity, instrument)
        if request.type is OrderType.MARKET and request.quantity > instrument.market_max_quantity:
            raise filter_failure("MARKET_LOT_SIZE")
    _check_notional(request, instrument, average_price)


def _check_price(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    price = request.price
    if decimals_of(price) > ASSET_DECIMALS:
        raise too_precise("price")
    if price <= ZERO:
        raise ExchangeError(-1013, "Invalid price.")
    if not instrument.min_price <= price <= instrument.max_price or price % instrument.tick_size:
        raise filter_failure("PRICE_FILTER")
    low = average_price * instrument.price_multiplier_down
    high = average_price * instrument.price_multiplier_up
    if not low <= price <= high:
        raise filter_failure("PERCENT_PRICE_BY_SIDE")


def _check_lot(quantity: Decimal, instrument: Instrument) -> None:
    # q % step, not (q - min) % step: the rule since 2023.
    too_small = quantity < instrument.step_size
    if too_small or quantity > instrument.max_quantity or quantity % instrument.step_size:
        raise filter_failure("LOT_SIZE")


def _check_notional(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    is_market = request.type is OrderType.MARKET
    if request.quote_quantity is not None:
        notional = request.quote_quantity
    else:
        assert request.quantity is not None
        notional = request.quantity * (average_price if is_market else request.price)
    # applyMinToMarket is true, applyMaxToMarket false, as on live BTCUSDT.
    if notional < instrument.min_notional or (not is_market and notional > instrument.max_notional):
        raise filter_failure("NOTIONAL")
