"""Rules that depend on an account's open orders and balances: the engine refuses with -2010 (binance.md §5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from simulator.decimals import ZERO, money_text
from simulator.engine.contracts import Order, OrderRequest, OrderType, Side
from simulator.engine.errors import account_filter_failure
from simulator.engine.instruments import Instrument
from simulator.engine.ledger import Ledger
from simulator.engine.records import Records

RULES = {
    "exchange_max_orders": "max_orders",
    "exchange_max_algo_orders": "max_algo_orders",
    "exchange_max_iceberg_orders": "max_iceberg_orders",
    "exchange_max_order_lists": "max_order_lists",
}
AMOUNT = re.compile(r"^[0-9]{1,12}(\.[0-9]{1,8})?$")


@dataclass(slots=True)
class ExchangeRules:
    """Rules of the whole exchange; None and an empty mapping are off, as on the live exchange today.

    `max_assets` is MAX_ASSET by asset, which only GET myFilters shows.
    """

    max_orders: int | None = None
    max_algo_orders: int | None = None
    max_iceberg_orders: int | None = None
    max_order_lists: int | None = None
    max_assets: dict[str, Decimal] = field(default_factory=dict)

    def change(self, values: dict[str, Any]) -> None:
        """Other rules from now on: counts by the names of `RULES`, "max_assets" by asset. Raises ValueError."""
        counts: dict[str, int] = {}
        for name, value in values.items():
            if name == "max_assets" and isinstance(value, dict):
                assets = {str(asset): str(limit) for asset, limit in value.items()}
                if all(AMOUNT.match(limit) for limit in assets.values()):
                    continue
            elif name in RULES and type(value) is int and value >= 0:
                counts[RULES[name]] = value
                continue
            raise ValueError(f"rule {name!r} cannot be {value!r}; known: {', '.join(RULES)}, max_assets")
        for field_name, count in counts.items():
            setattr(self, field_name, count)
        for asset, limit in values.get("max_assets", {}).items():
            self.max_assets[str(asset)] = Decimal(str(limit))

    def filters_json(self) -> list[dict[str, Any]]:
        """`exchangeFilters` of exchangeInfo and myFilters."""
        named = (
            ("EXCHANGE_MAX_NUM_ORDERS", "maxNumOrders", self.max_orders),
            ("EXCHANGE_MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders", self.max_algo_orders),
            ("EXCHANGE_MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders", self.max_iceberg_orders),
            ("EXCHANGE_MAX_NUM_ORDER_LISTS", "maxNumOrderLists", self.max_order_lists),
        )
        return [{"filterType": kind, name: limit} for kind, name, limit in named if limit is not None]

    def assets_json(self, assets: Sequence[str]) -> list[dict[str, Any]]:
        """`assetFilters` of myFilters."""
        return [
            {"filterType": "MAX_ASSET", "asset": asset, "limit": money_text(self.max_assets[asset])}
            for asset in assets
            if asset in self.max_assets
        ]


def check_account(
    account_id: int,
    requests: Sequence[OrderRequest],
    is_list: bool,
    instrument: Instrument,
    rules: ExchangeRules,
    records: Records,
    ledger: Ledger,
) -> None:
    """Raise -2010 for the first rule that the new orders would break together with those that are open."""
    open_orders = records.open_orders(account_id, instrument.symbol)
    everywhere = records.open_orders(account_id)
    for prefix, present, limits in (
        (
            "",
            open_orders,
            (instrument.max_open_orders, instrument.max_algo_orders, instrument.max_iceberg_orders),
        ),
        (
            "EXCHANGE_",
            everywhere,
            (rules.max_orders, rules.max_algo_orders, rules.max_iceberg_orders),
        ),
    ):
        _check_counts(prefix, present, requests, limits)
    if is_list:
        if len(records.open_lists(account_id, instrument.symbol)) >= instrument.max_order_lists:
            raise account_filter_failure("MAX_NUM_ORDER_LISTS")
        limit = rules.max_order_lists
        if limit is not None and len(records.open_lists(account_id)) >= limit:
            raise account_filter_failure("EXCHANGE_MAX_NUM_ORDER_LISTS")
    _check_position(account_id, open_orders, requests, instrument, ledger)
    for request in requests:
        _check_assets(request, instrument, rules)


def _check_counts(
    prefix: str,
    present: Sequence[Order],
    requests: Sequence[OrderRequest],
    limits: tuple[int | None, int | None, int | None],
) -> None:
    everything: list[Order | OrderRequest] = [*present, *requests]
    counts = (
        ("MAX_NUM_ORDERS", len(everything), len(requests)),
        (
            "MAX_NUM_ALGO_ORDERS",
            sum(o.type.is_stop for o in everything),
            sum(r.type.is_stop for r in requests),
        ),
        (
            "MAX_NUM_ICEBERG_ORDERS",
            sum(bool(o.iceberg_quantity) for o in everything),
            sum(bool(r.iceberg_quantity) for r in requests),
        ),
    )
    for (name, count, added), limit in zip(counts, limits, strict=True):
        if limit is not None and added and count > limit:
            raise account_filter_failure(prefix + name)


def _check_position(
    account_id: int,
    open_orders: Sequence[Order],
    requests: Sequence[OrderRequest],
    instrument: Instrument,
    ledger: Ledger,
) -> None:
    buys = [request for request in requests if request.side is Side.BUY and request.quantity is not None]
    if instrument.max_position is None or not buys:
        return
    balance = ledger.balance(account_id, instrument.base_asset)
    ordered = sum((order.remaining for order in open_orders if order.side is Side.BUY), ZERO)
    # The legs of an OCO exclude each other, so the larger one counts.
    new = max(request.quantity or ZERO for request in buys)
    if balance.free + balance.locked + ordered + new > instrument.max_position:
        raise account_filter_failure("MAX_POSITION")


def _check_assets(request: OrderRequest, instrument: Instrument, rules: ExchangeRules) -> None:
    limit = rules.max_assets.get(instrument.base_asset)
    if limit is not None and request.quantity is not None and request.quantity > limit:
        raise account_filter_failure("MAX_ASSET")
    limit = rules.max_assets.get(instrument.quote_asset)
    if limit is None:
        return
    notional = request.quote_quantity
    if notional is None and request.quantity is not None and request.type is not OrderType.MARKET:
        notional = request.quantity * (request.price or request.stop_price)
    if notional is not None and notional > limit:
        raise account_filter_failure("MAX_ASSET")
