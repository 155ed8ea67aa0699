"""The exchange's ledger over HTTP, in the shape that the auditor reads, and what only whole processes can show.

Shares no code with the bot: JSON on one side, SQL on the other.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from django.db import connection

from tradingbot.operations.rehearsal.auditor import Auditor
from tradingbot.operations.rehearsal.processes.product import Product

UNITS_EXPONENT = 8  # the engine counts prices in 10⁻⁸


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the two books come to when they are laid side by side."""

    orders: int
    trades: int
    duplicates: int
    lost: int
    manual_reviews: int
    complaints: tuple[str, ...]  # everything that is wrong, a person's open work excepted


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


class _Records:
    """The records of GET /sim/orders, named as the engine names them."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._orders = [
            SimpleNamespace(
                symbol=row["symbol"],
                order_id=row["orderId"],
                client_order_id=row["clientOrderId"],
                side=row["side"],
                type=row["type"],
                status=row["status"],
                quantity=Decimal(row["origQty"]),
                price=Decimal(row["price"]),
                stop_price=Decimal(row.get("stopPrice", "0")),
                executed=Decimal(row["executedQty"]),
            )
            for row in told["orders"]
        ]
        self._trades = [
            SimpleNamespace(
                symbol=row["symbol"],
                trade_id=row["id"],
                order_id=row["orderId"],
                side="BUY" if row["isBuyer"] else "SELL",
                price=Decimal(row["price"]),
                quantity=Decimal(row["qty"]),
                commission=Decimal(row["commission"]),
                commission_asset=row["commissionAsset"],
            )
            for row in told["trades"]
        ]

        self.lists = {
            row["orderListId"]: SimpleNamespace(client_order_id=row["listClientOrderId"])
            for row in told["lists"]
        }

    def all_orders(self) -> list[Any]:
        return self._orders

    def all_trades(self) -> list[Any]:
        return self._trades


def _market(product: Product) -> dict[str, dict[str, Any]]:
    """Instruments and tapes by symbol, with the base asset and the last price in the engine's units."""
    symbols = product.exchange("/sim/market")["symbols"]
    bases = {row["symbol"]: row["baseAsset"] for row in product.exchange("/api/v3/exchangeInfo")["symbols"]}
    return {
        "instruments": {symbol: SimpleNamespace(base_asset=bases[symbol]) for symbol in symbols},
        "tapes": {
            symbol: SimpleNamespace(last_price=int(Decimal(row["last_price"]).scaleb(UNITS_EXPONENT)))
            for symbol, row in symbols.items()
        },
    }


def judge(product: Product, opening: dict[str, Decimal]) -> Verdict:
    """Lay the exchange's ledger beside the bot's tables; `opening` is what the account was opened with."""
    told = product.exchange("/sim/orders")
    records = _Records(told)
    engine = SimpleNamespace(records=records, **_market(product))
    exchange: Any = SimpleNamespace(venue=SimpleNamespace(exchange=engine), past=())
    auditor = Auditor(exchange)
    reviewed = {row[0] for row in _rows(_REVIEWS)}
    complaints = [
        line
        for line in auditor.check(at_end=True)
        if not any(line == f"{name} is still manual_review_required" for name in reviewed)
    ]
    complaints += _check_balances(product, opening) + _check_proposals()
    return Verdict(
        orders=auditor.exchange_order_count(),
        trades=len(told["trades"]),
        duplicates=auditor.duplicates,
        lost=auditor.lost,
        manual_reviews=len(reviewed),
        complaints=tuple(complaints),
    )


_REVIEWS = "SELECT client_order_id FROM execution_order WHERE status = 'manual_review_required'"


def balances_there(product: Product) -> dict[str, Decimal]:
    """Free and locked of the bot's account, which is the only one, by the exchange's audited ledger."""
    (account,) = product.exchange("/sim/ledger")["accounts"]
    return {
        asset: Decimal(balance["free"]) + Decimal(balance["locked"])
        for asset, balance in account["balances"].items()
    }


def _check_balances(product: Product, opening: dict[str, Decimal]) -> list[str]:
    """Opening balances and our fills come to the exchange's balances, to the last unit (invariant 6)."""
    expected: dict[str, Decimal] = defaultdict(Decimal, opening)
    for base, quote, side, quantity, quote_quantity, commission, asset in _rows(
        "SELECT i.base_asset, i.quote_asset, f.side, f.quantity, f.quote_quantity, f.commission, "
        "f.commission_asset FROM execution_fill f "
        "JOIN market_instrument i ON i.symbol = f.symbol AND i.environment = f.environment"
    ):
        sign = 1 if side == "BUY" else -1
        expected[base] += sign * quantity
        expected[quote] -= sign * quote_quantity
        expected[asset] -= commission
    there = balances_there(product)
    return [
        f"{asset}: {there.get(asset, Decimal(0))} there, opening and fills come to {expected[asset]}"
        for asset in sorted(there.keys() | expected.keys())
        if there.get(asset, Decimal(0)) != expected[asset]
    ]


def _check_proposals() -> list[str]:
    """No approved proposal was forgotten and none became two intents."""
    wrong = [
        f"proposal {row[0]} is {row[1]} and was never claimed"
        for row in _rows(
            "SELECT p.id, p.status FROM proposals_proposal p "
            "LEFT JOIN execution_executionintent i ON i.proposal_id = p.id "
            "WHERE p.status IN ('auto_approved', 'approved') AND (p.claimed_at IS NULL OR i.id IS NULL)"
        )
    ]
    intents = Counter(
        row[0] for row in _rows("SELECT proposal_id FROM execution_executionintent WHERE kind = 'proposal'")
    )
    return wrong + [f"proposal {pk} has {count} intents" for pk, count in intents.items() if count > 1]
