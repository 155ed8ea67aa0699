"""Symbols and their filters, written as exchangeInfo shows them (binance.md §5, §10.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from simulator.decimals import ZERO, decimals_of, money_text
from simulator.engine.contracts import OrderType, SelfTradePrevention

TRADING = "TRADING"
STATUSES = (TRADING, "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY")
QUOTE_ASSETS = (
    "USDT",
    "USDC",
    "FDUSD",
    "TUSD",
    "BUSD",
    "DAI",
    "EUR",
    "TRY",
    "BRL",
    "USD",
    "BTC",
    "ETH",
    "BNB",
)


@dataclass(slots=True, frozen=True)
class Instrument:
    """A symbol with its filters. `reference_price` is only where a generated market begins. Without
    `min_quantity` the step is the smallest quantity; an older symbol has MIN_NOTIONAL (`is_older`) instead of
    NOTIONAL."""

    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    step_size: Decimal
    reference_price: Decimal = Decimal(100)
    minute_volatility: float = 0.0006
    minute_quote_volume: float = 150_000.0
    min_price: Decimal = Decimal("0.01")
    max_price: Decimal = Decimal(1_000_000)
    min_quantity: Decimal | None = None
    max_quantity: Decimal = Decimal(9_000)
    market_min_quantity: Decimal = ZERO
    market_step_size: Decimal = ZERO
    market_max_quantity: Decimal = Decimal(150)
    min_notional: Decimal = Decimal(5)
    max_notional: Decimal = Decimal(9_000_000)
    apply_min_to_market: bool = True
    apply_max_to_market: bool = False
    is_older: bool = False
    price_multiplier_up: Decimal = Decimal(2)
    price_multiplier_down: Decimal = Decimal("0.5")
    average_price_minutes: int = 5
    max_open_orders: int = 200
    max_algo_orders: int = 5
    max_iceberg_orders: int | None = None
    max_order_lists: int = 20
    max_order_amends: int = 10
    max_iceberg_parts: int = 100
    max_position: Decimal | None = None
    percent_price_up: Decimal | None = None
    percent_price_down: Decimal | None = None
    trailing_delta_min: int = 10
    trailing_delta_max: int = 2_000
    status: str = TRADING

    def __post_init__(self) -> None:
        # price * quantity then has at most eight decimals, so settlement never rounds.
        if decimals_of(self.tick_size) + decimals_of(self.step_size) > 8:
            raise ValueError(
                f"{self.symbol}: tick {self.tick_size} and step {self.step_size} need > 8 decimals"
            )


def _known(
    base: str, quote: str, tick: str, step: str, price: str, volatility: float, **more: Any
) -> Instrument:
    return Instrument(
        symbol=base + quote,
        base_asset=base,
        quote_asset=quote,
        tick_size=Decimal(tick),
        step_size=Decimal(step),
        reference_price=Decimal(price),
        minute_volatility=volatility,
        min_price=Decimal(tick),
        **more,
    )


KNOWN_INSTRUMENTS = {
    instrument.symbol: instrument
    for instrument in (
        _known("BTC", "USDT", "0.01", "0.00001", "68000", 0.00045, minute_quote_volume=900_000.0),
        _known(
            "ETH", "USDT", "0.01", "0.0001", "3400", 0.00055,
            max_quantity=Decimal(9_000), market_max_quantity=Decimal(2_000), minute_quote_volume=500_000.0,
        ),
        _known(
            "SOL", "USDT", "0.01", "0.001", "170", 0.0008,
            max_quantity=Decimal(90_000), market_max_quantity=Decimal(20_000), minute_quote_volume=250_000.0,
        ),
        _known(
            "BNB", "USDT", "0.01", "0.001", "620", 0.0005,
            max_quantity=Decimal(90_000), market_max_quantity=Decimal(5_000), minute_quote_volume=180_000.0,
        ),
        _known("BTC", "USDC", "0.01", "0.00001", "68000", 0.00045),
    )
}  # fmt: skip
GENERATED_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT")


def split_symbol(symbol: str) -> tuple[str, str] | None:
    """Base and quote asset of a symbol name, None when the quote asset is not a known one."""
    for quote in QUOTE_ASSETS:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return None


def instrument_for(symbol: str, price_decimals: int, quantity_decimals: int) -> Instrument:
    """The known instrument, or one whose tick and step fit the decimals seen in a candle file.

    Raises ValueError when the name has no known quote asset or the decimals do not fit into eight.
    """
    known = KNOWN_INSTRUMENTS.get(symbol)
    if known and decimals_of(known.tick_size) >= price_decimals:
        return known
    parts = split_symbol(symbol)
    if parts is None:
        raise ValueError(f"cannot tell base and quote asset of {symbol!r}")
    step_decimals = min(quantity_decimals, 8 - price_decimals)
    return Instrument(
        symbol=symbol,
        base_asset=parts[0],
        quote_asset=parts[1],
        tick_size=Decimal(1).scaleb(-price_decimals),
        step_size=Decimal(1).scaleb(-step_decimals),
        min_price=Decimal(1).scaleb(-price_decimals),
        max_quantity=Decimal(90_000_000),
        market_max_quantity=Decimal(1_000_000),
    )


def filters_json(instrument: Instrument) -> list[dict[str, Any]]:
    """The filters as live sends them: amounts with eight decimals, multipliers unpadded."""
    up, down = f"{instrument.price_multiplier_up:f}", f"{instrument.price_multiplier_down:f}"
    minutes = instrument.average_price_minutes
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": money_text(instrument.min_price),
            "maxPrice": money_text(instrument.max_price),
            "tickSize": money_text(instrument.tick_size),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": money_text(instrument.min_quantity or instrument.step_size),
            "maxQty": money_text(instrument.max_quantity),
            "stepSize": money_text(instrument.step_size),
        },
        {
            # minQty and stepSize zero switch those parts off, as on live BTCUSDT.
            "filterType": "MARKET_LOT_SIZE",
            "minQty": money_text(instrument.market_min_quantity),
            "maxQty": money_text(instrument.market_max_quantity),
            "stepSize": money_text(instrument.market_step_size),
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": minutes,
        },
        _notional_json(instrument),
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": instrument.max_open_orders},
        {"filterType": "ICEBERG_PARTS", "limit": instrument.max_iceberg_parts},
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": instrument.trailing_delta_min,
            "maxTrailingAboveDelta": instrument.trailing_delta_max,
            "minTrailingBelowDelta": instrument.trailing_delta_min,
            "maxTrailingBelowDelta": instrument.trailing_delta_max,
        },
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": instrument.max_algo_orders},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": instrument.max_order_lists},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": instrument.max_order_amends},
        *_filters_that_may_be_off(instrument),
    ]


def _notional_json(instrument: Instrument) -> dict[str, Any]:
    if instrument.is_older:
        return {
            "filterType": "MIN_NOTIONAL",
            "minNotional": money_text(instrument.min_notional),
            "applyToMarket": instrument.apply_min_to_market,
            "avgPriceMins": instrument.average_price_minutes,
        }
    return {
        "filterType": "NOTIONAL",
        "minNotional": money_text(instrument.min_notional),
        "applyMinToMarket": instrument.apply_min_to_market,
        "maxNotional": money_text(instrument.max_notional),
        "applyMaxToMarket": instrument.apply_max_to_market,
        "avgPriceMins": instrument.average_price_minutes,
    }


def _filters_that_may_be_off(instrument: Instrument) -> list[dict[str, Any]]:
    filters: list[dict[str, Any]] = []
    if instrument.max_iceberg_orders is not None:
        filters.append(
            {"filterType": "MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders": instrument.max_iceberg_orders}
        )
    if instrument.max_position is not None:
        filters.append({"filterType": "MAX_POSITION", "maxPosition": money_text(instrument.max_position)})
    if instrument.percent_price_up is not None and instrument.percent_price_down is not None:
        filters.append(
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": f"{instrument.percent_price_up:f}",
                "multiplierDown": f"{instrument.percent_price_down:f}",
                "avgPriceMins": instrument.average_price_minutes,
            }
        )
    return filters


def changed(instrument: Instrument, values: dict[str, Any]) -> Instrument:
    """The instrument with other filters, e.g. {"tick_size": "0.1"}. Raises ValueError with a sentence.

    Tick and step may only become coarser by a whole factor: resting orders and the tape keep their grid.
    """
    texts: dict[str, Any] = {}
    for name, value in values.items():
        is_count = name in _COUNT_FIELDS and type(value) is int and value >= 0
        if is_count or (name in _SWITCHES and isinstance(value, bool)):
            texts[name] = value
        elif name in _MONEY_FIELDS and isinstance(value, str) and _PLAIN_NUMBER.match(value):
            texts[name] = Decimal(value)
        else:
            known = ", ".join(sorted(_COUNT_FIELDS | _MONEY_FIELDS | _SWITCHES))
            raise ValueError(
                f"filter {name!r} cannot be {value!r}; known (numbers as text, counts, switches): {known}"
            )
    for name in ("tick_size", "step_size"):
        if name in texts and (not texts[name] or texts[name] % getattr(instrument, name)):
            raise ValueError(f"{name} must be a whole multiple of {getattr(instrument, name)}")
    return replace(instrument, **texts)


_PLAIN_NUMBER = re.compile(r"^[0-9]{1,12}(\.[0-9]{1,8})?$")
_COUNT_FIELDS = frozenset(
    {"max_open_orders", "max_algo_orders", "max_iceberg_orders", "max_order_lists", "max_order_amends",
     "max_iceberg_parts",
     "trailing_delta_min", "trailing_delta_max", "average_price_minutes"}
)  # fmt: skip
_MONEY_FIELDS = frozenset(
    {"tick_size", "step_size", "min_price", "max_price", "min_quantity", "max_quantity", "market_min_quantity",
     "market_step_size", "market_max_quantity", "min_notional",
     "max_notional", "price_multiplier_up", "price_multiplier_down", "max_position", "percent_price_up",
     "percent_price_down"}
)  # fmt: skip


_SWITCHES = frozenset({"apply_min_to_market", "apply_max_to_market", "is_older"})


def instrument_json(instrument: Instrument) -> dict[str, Any]:
    """One entry of exchangeInfo `symbols`; what is not built is said to be not allowed."""
    return {
        "symbol": instrument.symbol,
        "status": instrument.status,
        "baseAsset": instrument.base_asset,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote_asset,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": list(OrderType),
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters_json(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": SelfTradePrevention.EXPIRE_MAKER,
        "allowedSelfTradePreventionModes": list(SelfTradePrevention),
    }
