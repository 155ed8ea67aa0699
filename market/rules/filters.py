"""exchangeInfo -> SymbolFilters (binance.md §5; rest-api.md, "Filters")."""

from decimal import Decimal
from typing import Any

from market.contracts import MalformedFrame, SymbolFilters
from tradingbot.core.decimals import ZERO, MalformedDecimal, parse_decimal

# Filters that we know and that bind nothing this bot sends: named here so that they are not "unknown".
_IRRELEVANT = {
    "ICEBERG_PARTS",
    "TRAILING_DELTA",
    "MAX_NUM_ICEBERG_ORDERS",
    "MAX_NUM_ORDER_AMENDS",
    "MAX_NUM_ORDER_LISTS",
    "EXCHANGE_MAX_NUM_ORDERS",
    "EXCHANGE_MAX_NUM_ALGO_ORDERS",
    "EXCHANGE_MAX_NUM_ICEBERG_ORDERS",
    "EXCHANGE_MAX_NUM_ORDER_LISTS",
    "T_PLUS_SELL",
}
_KNOWN = {
    "PRICE_FILTER",
    "LOT_SIZE",
    "MARKET_LOT_SIZE",
    "NOTIONAL",
    "MIN_NOTIONAL",
    "PERCENT_PRICE",
    "PERCENT_PRICE_BY_SIDE",
    "MAX_NUM_ORDERS",
    "MAX_NUM_ALGO_ORDERS",
    "MAX_POSITION",
}


def parse_filters(raw: dict[str, Any]) -> SymbolFilters:
    """The filters of one entry of exchangeInfo's `symbols`.

    An unknown filterType is kept by name; a missing PRICE_FILTER or LOT_SIZE, or a malformed number, raises
    MalformedFrame: without them no order can be checked.
    """
    try:
        return _parse(raw)
    except (KeyError, TypeError, AttributeError, ValueError, MalformedDecimal) as error:
        symbol = raw.get("symbol") if isinstance(raw, dict) else None
        raise MalformedFrame(
            f"exchangeInfo of {symbol!r:.40} is malformed: {type(error).__name__} {error}"
        ) from error


def _parse(raw: dict[str, Any]) -> SymbolFilters:
    by_type = {f["filterType"]: f for f in raw["filters"]}
    price, lot = by_type["PRICE_FILTER"], by_type["LOT_SIZE"]
    market_lot = by_type.get("MARKET_LOT_SIZE", {})
    sided, plain_band = by_type.get("PERCENT_PRICE_BY_SIDE", {}), by_type.get("PERCENT_PRICE", {})
    up, down = _number(plain_band, "multiplierUp"), _number(plain_band, "multiplierDown")
    return SymbolFilters(
        symbol=_text(raw, "symbol"),
        base_asset=_text(raw, "baseAsset"),
        quote_asset=_text(raw, "quoteAsset"),
        status=_text(raw, "status"),
        price_tick=parse_decimal(price["tickSize"]),
        price_min=parse_decimal(price["minPrice"]),
        price_max=parse_decimal(price["maxPrice"]),
        quantity_step=parse_decimal(lot["stepSize"]),
        quantity_min=parse_decimal(lot["minQty"]),
        quantity_max=parse_decimal(lot["maxQty"]),
        market_quantity_step=_number(market_lot, "stepSize"),
        market_quantity_min=_number(market_lot, "minQty"),
        market_quantity_max=_number(market_lot, "maxQty"),
        **_notional(by_type.get("NOTIONAL", {}), by_type.get("MIN_NOTIONAL", {})),
        bid_multiplier_up=_number(sided, "bidMultiplierUp") or up,
        bid_multiplier_down=_number(sided, "bidMultiplierDown") or down,
        ask_multiplier_up=_number(sided, "askMultiplierUp") or up,
        ask_multiplier_down=_number(sided, "askMultiplierDown") or down,
        open_orders_max=_count(by_type.get("MAX_NUM_ORDERS", {}), "maxNumOrders"),
        algo_orders_max=_count(by_type.get("MAX_NUM_ALGO_ORDERS", {}), "maxNumAlgoOrders"),
        position_max=_number(by_type.get("MAX_POSITION", {}), "maxPosition"),
        order_types=_texts(raw, "orderTypes"),
        oco_allowed=raw.get("ocoAllowed") is True,
        oto_allowed=raw.get("otoAllowed") is True,
        opo_allowed=raw.get("opoAllowed") is True,
        stp_modes=_texts(raw, "allowedSelfTradePreventionModes"),
        unknown_filters=tuple(sorted(str(name) for name in by_type if name not in _KNOWN | _IRRELEVANT)),
    )


def _notional(current: dict[str, Any], older: dict[str, Any]) -> dict[str, Any]:
    """A symbol has NOTIONAL or the older MIN_NOTIONAL; should it have both, the larger minimum binds."""
    minimum, older_minimum = _number(current, "minNotional"), _number(older, "minNotional")
    return {
        "notional_min": max(minimum, older_minimum),
        "notional_min_applies_to_market": current.get("applyMinToMarket") is True
        or older.get("applyToMarket") is True,
        "notional_max": _number(current, "maxNotional"),
        "notional_max_applies_to_market": current.get("applyMaxToMarket") is True,
    }


def _number(fields: dict[str, Any], name: str) -> Decimal:
    """The number, or 0 (= the rule is off) when the filter is absent."""
    return parse_decimal(fields[name]) if fields else ZERO


def _count(fields: dict[str, Any], name: str) -> int:
    value = fields[name] if fields else 0
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}={value!r:.40} is not a count")
    return value


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value!r:.40} is not a name")
    return value


def _texts(raw: dict[str, Any], name: str) -> tuple[str, ...]:
    values = raw.get(name, [])
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError(f"{name} is not a list of names")
    return tuple(values)
