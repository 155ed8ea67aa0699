"""The symbol's rules that can be checked without the book: -1013 with Binance's texts (binance.md §5)."""

from __future__ import annotations

from decimal import Decimal

from simulator.decimals import ZERO, decimals_of
from simulator.engine.contracts import OrderRequest
from simulator.engine.errors import ExchangeError, filter_failure, rejected, too_precise
from simulator.engine.instruments import Instrument

ASSET_DECIMALS = 8


def check_static(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    """Raise ExchangeError for the first filter that `request` breaks.

    `average_price` is the volume-weighted price over the symbol's avgPriceMins, the reference of
    PERCENT_PRICE_BY_SIDE and of NOTIONAL for MARKET orders.
    """
    for name, value in (
        ("quantity", request.quantity),
        ("quoteOrderQty", request.quote_quantity),
        ("icebergQty", request.iceberg_quantity or None),
    ):
        if value is not None:
            if decimals_of(value) > ASSET_DECIMALS:
                raise too_precise(name)
            if value <= ZERO:
                raise ExchangeError(
                    -1013, "Invalid quote order quantity." if name == "quoteOrderQty" else "Invalid quantity."
                )
    if request.type.has_price:
        _check_price("price", request.price, instrument)
        _check_distance(request, instrument, average_price)
    if request.stop_price:
        _check_price("stopPrice", request.stop_price, instrument)
    _check_trailing(request, instrument)
    if request.quantity is not None:
        _check_lot(request.quantity, instrument)
        if not request.type.has_price:
            _check_market_lot(request.quantity, instrument)
        _check_iceberg(request.iceberg_quantity, request.quantity, instrument)
    _check_notional(request, instrument, average_price)


def _check_price(name: str, price: Decimal, instrument: Instrument) -> None:
    if decimals_of(price) > ASSET_DECIMALS:
        raise too_precise(name)
    if price <= ZERO:
        raise ExchangeError(-1013, "Invalid price." if name == "price" else "Stop price must be positive.")
    if not instrument.min_price <= price <= instrument.max_price or price % instrument.tick_size:
        raise filter_failure("PRICE_FILTER")


def _check_distance(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    low = average_price * instrument.price_multiplier_down
    high = average_price * instrument.price_multiplier_up
    if not low <= request.price <= high:
        raise filter_failure("PERCENT_PRICE_BY_SIDE")
    up, down = instrument.percent_price_up, instrument.percent_price_down
    if (
        up is not None
        and down is not None
        and not average_price * down <= request.price <= average_price * up
    ):
        raise filter_failure("PERCENT_PRICE")


def _check_trailing(request: OrderRequest, instrument: Instrument) -> None:
    delta = request.trailing_delta
    if delta and not instrument.trailing_delta_min <= delta <= instrument.trailing_delta_max:
        raise filter_failure("TRAILING_DELTA")


def _check_iceberg(part: Decimal, quantity: Decimal, instrument: Instrument) -> None:
    if not part:
        return
    if part >= quantity:
        raise rejected("IcebergQty exceeds QTY.")
    _check_lot(part, instrument)
    if -(-quantity // part) > instrument.max_iceberg_parts:
        raise filter_failure("ICEBERG_PARTS")


def _check_lot(quantity: Decimal, instrument: Instrument) -> None:
    # q % step, not (q - min) % step: the rule since 2023.
    too_small = quantity < (instrument.min_quantity or instrument.step_size)
    if too_small or quantity > instrument.max_quantity or quantity % instrument.step_size:
        raise filter_failure("LOT_SIZE")


def _check_market_lot(quantity: Decimal, instrument: Instrument) -> None:
    step = instrument.market_step_size
    off_step = bool(step) and bool(quantity % step)
    if off_step or not instrument.market_min_quantity <= quantity <= instrument.market_max_quantity:
        raise filter_failure("MARKET_LOT_SIZE")


def _check_notional(request: OrderRequest, instrument: Instrument, average_price: Decimal) -> None:
    if request.quote_quantity is not None:
        notional = request.quote_quantity
    elif request.quantity is None:
        # A pending leg that sells what its working leg will have bought.
        return
    else:
        notional = request.quantity * (request.price if request.type.has_price else average_price)
    # Stops without a limit become market orders and are checked like them.
    limited = request.type.has_price
    if notional < instrument.min_notional and (limited or instrument.apply_min_to_market):
        raise filter_failure("MIN_NOTIONAL" if instrument.is_older else "NOTIONAL")
    binds_above = not instrument.is_older and (limited or instrument.apply_max_to_market)
    if notional > instrument.max_notional and binds_above:
        raise filter_failure("NOTIONAL")
