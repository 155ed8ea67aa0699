"""Symbols and their filters, written as exchangeInfo shows them (binance.md §5, §10.1)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simulator.decimals import decimals_of, money_text
from simulator.engine.contracts import OrderType, SelfTradePrevention

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
    """A symbol with its filters. `reference_price` is only where a generated market begins."""

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
    max_quantity: Decimal = Decimal(9_000)
    market_max_quantity: Decimal = Decimal(150)
    min_notional: Decimal = Decimal(5)
    max_notional: Decimal = Decimal(9_000_000)
    price_multiplier_up: Decimal = Decimal(2)
    price_multiplier_down: Decimal = Decimal("0.5")
    average_price_minutes: int = 5
    max_open_orders: int = 200
    status: str = "TRADING"

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
            "minQty": money_text(instrument.step_size),
            "maxQty": money_text(instrument.max_quantity),
            "stepSize": money_text(instrument.step_size),
        },
        {
            # minQty and stepSize zero switch those parts off, as on live BTCUSDT.
            "filterType": "MARKET_LOT_SIZE",
            "minQty": "0.00000000",
            "maxQty": money_text(instrument.market_max_quantity),
            "stepSize": "0.00000000",
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": minutes,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": money_text(instrument.min_notional),
            "applyMinToMarket": True,
            "maxNotional": money_text(instrument.max_notional),
            "applyMaxToMarket": False,
            "avgPriceMins": minutes,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": instrument.max_open_orders},
    ]


def instrument_json(instrument: Instrument) -> dict[str, Any]:
    """One entry of exchangeInfo `symbols`; what is not built yet is said to be not allowed."""
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
        "orderTypes": [OrderType.LIMIT, OrderType.LIMIT_MAKER, OrderType.MARKET],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": filters_json(instrument),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": SelfTradePrevention.EXPIRE_MAKER,
        "allowedSelfTradePreventionModes": list(SelfTradePrevention),
    }
