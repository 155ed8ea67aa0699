"""The auditor: compares the exchange's own ledger with the bot's tables. It shares no code with the bot.

It reads the tables by SQL and the exchange by its records, and states the invariants of the design (§4).
"""

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from tradingbot.operations.rehearsal.exchange import RehearsedExchange

BY_HAND = "by-hand-"
APPROVED = {"approved", "auto_approved"}
NEVER_PLACED = {"aborted", "rejected", "not_placed"}
UNRESOLVED = {"intent", "submitted_to_exchange", "execution_unknown", "manual_review_required"}


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


class Auditor:
    """Judges after every step; at the end also that nothing is left over."""

    def __init__(self, exchange: "RehearsedExchange") -> None:
        self._exchange = exchange
        self.duplicates = 0
        self.lost = 0

    def _exchange_orders(self) -> list[Any]:
        records = self._exchange.venue.exchange.records
        return [order for order in records.all_orders() if not order.client_order_id.startswith(BY_HAND)]

    def exchange_order_count(self) -> int:
        """Orders of the bot on the exchange."""
        return len(self._exchange_orders())

    def check(self, *, at_end: bool) -> list[str]:
        """What is wrong, in words; empty when every invariant holds."""
        orders = self._exchange_orders()
        wrong = self._check_orders(orders) + self._check_states(orders) + self._check_fills()
        if at_end:
            wrong += self._check_end(orders)
        return wrong

    def _check_orders(self, orders: list[Any]) -> list[str]:
        """Invariants 1 to 4: once at most, only with an approved intent, with the very order approved."""
        intents = {
            row[0]: row
            for row in _rows(
                "SELECT i.client_order_id, i.symbol, i.side, i.order_type, i.quantity, i.price, p.status, "
                "p.claimed_at, p.expires_at FROM execution_executionintent i "
                "JOIN proposals_proposal p ON p.id = i.proposal_id"
            )
        }
        wrong = []
        for client_id, count in Counter(order.client_order_id for order in orders).items():
            if count > 1:
                self.duplicates += count - 1
                wrong.append(f"{client_id} is on the exchange {count} times")
        for order in orders:
            intent = intents.get(order.client_order_id)
            if intent is None:
                wrong.append(f"{order.client_order_id} is on the exchange without a committed intent")
                continue
            sent = (order.symbol, str(order.side), str(order.type), order.quantity)
            if sent != (*intent[1:4], intent[4]):
                wrong.append(f"{order.client_order_id} differs from what was approved: {sent} {intent[1:6]}")
            if intent[6] not in APPROVED or intent[7] is None or intent[7] >= intent[8]:
                wrong.append(
                    f"{order.client_order_id} was ordered on a proposal {intent[6]} claimed {intent[7]}"
                )
        return wrong

    def _check_states(self, orders: list[Any]) -> list[str]:
        """Invariants 4 and 8: what may still cost something is reserved; what was concluded absent is absent."""
        on_exchange = {order.client_order_id for order in orders}
        wrong = []
        for client_id, status, reserved_quote, reserved_base in _rows(
            "SELECT client_order_id, status, reserved_quote, reserved_base FROM execution_order"
        ):
            if status in NEVER_PLACED and client_id in on_exchange:
                wrong.append(f"{client_id} was concluded {status} and is on the exchange")
            if status in UNRESOLVED and not (reserved_quote or reserved_base):
                wrong.append(f"{client_id} is {status} and nothing is reserved for it")
        return wrong

    def _check_fills(self) -> list[str]:
        """Invariant 6 and 9: no invented fill, each as the exchange has it, positions are their sum."""
        trades = {
            (trade.symbol, trade.trade_id): trade
            for trade in self._exchange.venue.exchange.records.all_trades()
        }
        wrong = []
        for symbol, trade_id, price, quantity, commission, asset in _rows(
            "SELECT symbol, trade_id, price, quantity, commission, commission_asset FROM execution_fill"
        ):
            trade = trades.get((symbol, trade_id))
            if trade is None:
                wrong.append(f"fill {symbol} {trade_id} was invented")
            elif (price, quantity, commission, asset) != (
                trade.price,
                trade.quantity,
                trade.commission,
                trade.commission_asset,
            ):
                wrong.append(f"fill {symbol} {trade_id} differs from the exchange's record")
        for symbol, held, summed in _rows(
            "SELECT p.symbol, p.quantity, (SELECT coalesce(sum(CASE WHEN f.side = 'BUY' THEN f.quantity "
            "ELSE -f.quantity END), 0) - coalesce(sum(f.commission) FILTER (WHERE f.commission_asset = "
            "p.base_asset), 0) FROM execution_fill f WHERE f.symbol = p.symbol) FROM execution_position p"
        ):
            if held != max(summed, Decimal(0)):
                wrong.append(f"position {symbol} is {held}, its fills come to {summed}")
        return wrong

    def _check_end(self, orders: list[Any]) -> list[str]:
        """Nothing lost, nothing left reserved or unresolved, every order told as the exchange has it."""
        ours = {
            row[0]: row
            for row in _rows(
                "SELECT client_order_id, status, exchange_status, executed_quantity, "
                "reserved_quote, reserved_base FROM execution_order"
            )
        }
        wrong = []
        for order in orders:
            row = ours.get(order.client_order_id)
            if row is None or row[1] != "execution_confirmed" or row[3] != order.executed:
                self.lost += 1
                wrong.append(f"{order.client_order_id} is {order.status} {order.executed} there, here {row}")
        on_exchange = {order.client_order_id for order in orders}
        for client_id, status, *_rest, reserved_quote, reserved_base in ours.values():
            if status in UNRESOLVED:
                wrong.append(f"{client_id} is still {status}")
            if status == "execution_confirmed" and client_id not in on_exchange:
                wrong.append(f"{client_id} is confirmed and the exchange never had it")
            if status in NEVER_PLACED and (reserved_quote or reserved_base):
                wrong.append(f"{client_id} is {status} and still reserves")
        by_hand = sum(
            o.client_order_id.startswith(BY_HAND) for o in self._exchange.venue.exchange.records.all_orders()
        )
        booked = _rows("SELECT count(*) FROM execution_fill")[0][0]
        there = sum(1 for _ in self._exchange.venue.exchange.records.all_trades())
        if not by_hand and booked != there:
            self.lost += there - booked
            wrong.append(f"{there} trades there, {booked} fills here")
        divergences = _rows(
            "SELECT kind, subject, ours::text, theirs::text FROM execution_divergence WHERE closed_at IS NULL"
        )
        wrong += [f"open divergence: {row}" for row in divergences]
        return wrong
