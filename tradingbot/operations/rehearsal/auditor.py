"""The auditor: compares the exchange's own ledger with the bot's tables. It shares no code with the bot.

It reads the tables by SQL and the exchange by its records, and states the invariants of the design (§4).
A wipe of the exchange begins a new era there and, once a person has accepted it, a new ledger here: orders and
trades of past eras are judged by what the exchange knew then, positions and what is open by the present one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import connection

from simulator.decimals import from_units

if TYPE_CHECKING:
    from tradingbot.operations.rehearsal.exchange import RehearsedExchange

BY_HAND = "by-hand-"
APPROVED = {"approved", "auto_approved"}
NEVER_PLACED = {"aborted", "rejected", "not_placed"}
ON_BOOK = {"NEW", "PARTIALLY_FILLED"}
# Worth in quote below which a rest is dust that the exchange takes no stop for.
BARE_WORTH_MIN = Decimal(8)
# A dropped event is told by the next reconciliation, 60 s later; a failed one by the one after it. Only time
# in which the bot is at work counts: a rehearsal skips the hours in which nothing happens.
NOTICED_WITHIN = timedelta(seconds=120)
STEP_MAX = timedelta(seconds=10)
ENDED_BY_RESET = "its environment was reset"
UNRESOLVED = {"intent", "submitted_to_exchange", "execution_unknown", "manual_review_required"}


def _rows(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _not_by_hand(orders: Iterable[Any]) -> list[Any]:
    return [order for order in orders if not order.client_order_id.startswith(BY_HAND)]


class Auditor:
    """Judges after every step; at the end also that nothing is left over."""

    def __init__(self, exchange: "RehearsedExchange") -> None:
        self._exchange = exchange
        self.duplicates = 0
        self.lost = 0
        self._bare_for: dict[str, timedelta] = {}
        self._checked_at: datetime | None = None

    def _exchange_orders(self) -> list[Any]:
        """The bot's orders of the present era."""
        return _not_by_hand(self._exchange.venue.exchange.records.all_orders())

    def _past_orders(self) -> list[Any]:
        return _not_by_hand(order for era in self._exchange.past for order in era.orders)

    def exchange_order_count(self) -> int:
        """Orders of the bot that the exchange ever had."""
        return len(self._exchange_orders()) + len(self._past_orders())

    def check(self, *, at_end: bool, now: datetime | None = None) -> list[str]:
        """What is wrong, in words; empty when every invariant holds.

        Lists and protection need the engine itself and the time of the exchange, so without `now` they are
        left to other tests.
        """
        orders = self._exchange_orders()
        wrong = self._check_orders(self._past_orders() + orders) + self._check_approvals(orders)
        wrong += self._check_states(orders) + self._check_fills()
        if now is not None:
            wrong += self._check_lists() + self._check_protection(orders, now)
        if at_end:
            wrong += self._check_end(orders)
        return wrong

    def _check_orders(self, orders: list[Any]) -> list[str]:
        """Invariants 1 to 4: once at most, only with an approved intent, with the very order approved."""
        intents = {
            row[0]: row
            for row in _rows(
                "SELECT o.client_order_id, i.symbol, o.side, i.order_type, i.quantity, i.price, p.status, "
                "p.claimed_at, p.expires_at, i.kind, o.role, o.trigger_price, i.stop_price, i.target_price "
                "FROM execution_order o JOIN execution_executionintent i ON i.id = o.intent_id "
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
            wrong += self._check_content(order, intent)
            if intent[6] not in APPROVED or intent[7] is None or intent[7] >= intent[8]:
                wrong.append(
                    f"{order.client_order_id} was ordered on a proposal {intent[6]} claimed {intent[7]}"
                )
        return wrong

    def _check_approvals(self, orders: list[Any]) -> list[str]:
        """Invariant 2 where the rest of an entry is put at another price: one entry of an approval at a time,
        and no more coins than were approved by whatever orders."""
        entries = {
            row[0]: row[1:]
            for row in _rows(
                "SELECT o.client_order_id, p.id, p.quantity FROM execution_order o "
                "JOIN execution_executionintent i ON i.id = o.intent_id "
                "JOIN proposals_proposal p ON p.id = i.proposal_id "
                "WHERE o.role = 'order' AND o.side = 'BUY' AND i.kind IN ('proposal', 'replace')"
            )
        }
        open_ones: Counter[Any] = Counter()
        bought: dict[Any, Decimal] = defaultdict(Decimal)
        for order in self._past_orders() + orders:
            if order.client_order_id in entries:
                bought[entries[order.client_order_id]] += order.executed
        for order in orders:
            if order.client_order_id in entries and str(order.status) in ON_BOOK:
                open_ones[entries[order.client_order_id][0]] += 1
        return [
            f"approval {proposal} has {count} entries open at once"
            for proposal, count in open_ones.items()
            if count > 1
        ] + [
            f"approval {proposal} was for {approved}, {quantity} was bought"
            for (proposal, approved), quantity in bought.items()
            if quantity > approved
        ]

    def _check_content(self, order: Any, intent: tuple[Any, ...]) -> list[str]:
        """What is on the exchange is what was approved: the order itself, and legs at the approved prices."""
        name = order.client_order_id
        if intent[10] == "order":
            sent = (order.symbol, str(order.side), str(order.type), order.quantity)
            same = sent == (*intent[1:4], intent[4])
            return [] if same else [f"{name} differs from what was approved: {sent} {intent[1:6]}"]
        if str(order.side) != "SELL":
            return [f"{name} protects by buying"]
        if intent[10] == "stop" and order.stop_price != intent[12]:
            return [f"{name} stops at {order.stop_price}, approved was {intent[12]}"]
        if intent[10] == "target" and order.price != intent[13]:
            return [f"{name} takes profit at {order.price}, approved was {intent[13]}"]
        return []

    def _check_states(self, orders: list[Any]) -> list[str]:
        """Invariants 4 and 8: what may still cost something is reserved; what was concluded absent is absent."""
        on_exchange = {order.client_order_id for order in orders}
        before = {order.client_order_id for order in self._past_orders()}
        wrong = []
        for client_id, status, reserved_quote, reserved_base, reason in _rows(
            "SELECT client_order_id, status, reserved_quote, reserved_base, reason FROM execution_order"
        ):
            # After a wipe nothing can be learnt of an order any more: that it never was is then no claim.
            claims_absence = client_id in on_exchange or (client_id in before and reason != ENDED_BY_RESET)
            if status in NEVER_PLACED and claims_absence:
                wrong.append(f"{client_id} was concluded {status} and is on the exchange")
            if status in UNRESOLVED and not (reserved_quote or reserved_base):
                wrong.append(f"{client_id} is {status} and nothing is reserved for it")
        return wrong

    def _check_fills(self) -> list[str]:
        """Invariant 6 and 9: no invented fill, each as the exchange has it, positions are their sum."""
        trades: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
        told = [trade for era in self._exchange.past for trade in era.trades]
        for trade in [*told, *self._exchange.venue.exchange.records.all_trades()]:
            amounts = (trade.price, trade.quantity, trade.commission, trade.commission_asset)
            trades[trade.symbol, trade.trade_id].append(amounts)  # ids begin again with an era
        wrong = []
        for symbol, trade_id, *booked in _rows(
            "SELECT symbol, trade_id, price, quantity, commission, commission_asset FROM execution_fill"
        ):
            if not trades[symbol, trade_id]:
                wrong.append(f"fill {symbol} {trade_id} was invented")
            elif tuple(booked) not in trades[symbol, trade_id]:
                wrong.append(f"fill {symbol} {trade_id} differs from the exchange's record")
        for symbol, held, summed in _rows(
            "SELECT p.symbol, p.quantity, (SELECT coalesce(sum(CASE WHEN f.side = 'BUY' THEN f.quantity "
            "ELSE -f.quantity END), 0) - coalesce(sum(f.commission) FILTER (WHERE f.commission_asset = "
            "p.base_asset), 0) FROM execution_fill f WHERE f.symbol = p.symbol AND f.ledger = "
            "(SELECT max(ledger) FROM execution_account)) FROM execution_position p"
        ):
            if held != max(summed, Decimal(0)):
                wrong.append(f"position {symbol} is {held}, its fills come to {summed}")
        return wrong

    def _check_lists(self) -> list[str]:
        """Invariant 1 for order lists: one list at most for each intent, and none that no intent names."""
        ours = {row[0] for row in _rows("SELECT list_client_order_id FROM execution_executionintent")} - {""}
        lists = [order_list for era in self._exchange.past for order_list in era.lists]
        lists += self._exchange.venue.exchange.records.lists.values()
        there = Counter(order_list.client_order_id for order_list in lists)
        self.duplicates += sum(count - 1 for count in there.values())
        return [
            f"list {name} is on the exchange {count} times" for name, count in there.items() if count > 1
        ] + [
            f"list {name} is on the exchange without a committed intent" for name in there if name not in ours
        ]

    def _check_protection(self, orders: list[Any], now: datetime) -> list[str]:
        """Never more sold than our purchases brought in; nothing held is left bare without anybody's notice.

        What is bare is judged by the exchange's own books, with time for the bot to learn of it: then a repair
        must be under way (an order, a cancel) or an alert be open.
        """
        wrong: list[str] = []
        bare = self._bare(orders, wrong)
        awake = min(now - self._checked_at, STEP_MAX) if self._checked_at else timedelta()
        if not self._exchange.is_reachable:
            awake = timedelta()  # whoever cannot ask cannot know
        self._checked_at = now
        self._bare_for = {symbol: self._bare_for.get(symbol, timedelta()) + awake for symbol in bare}
        for symbol, quantity in bare.items():
            seconds = self._bare_for[symbol].total_seconds()
            if self._bare_for[symbol] > NOTICED_WITHIN and not self._is_noticed(symbol):
                wrong.append(f"{quantity} of {symbol} is held without a stop for {seconds:.0f} s, unnoticed")
        return wrong

    def _bare(self, orders: list[Any], wrong: list[str]) -> dict[str, Decimal]:
        """What is held through the bot's orders and not under a stop, by symbol; oversold goes to `wrong`."""
        exchange = self._exchange.venue.exchange
        held: dict[str, Decimal] = defaultdict(Decimal)
        of_bot = {(order.symbol, order.order_id) for order in orders}
        for trade in exchange.records.all_trades():
            if (trade.symbol, trade.order_id) in of_bot:
                held[trade.symbol] += trade.quantity if str(trade.side) == "BUY" else -trade.quantity
                base = exchange.instruments[trade.symbol].base_asset
                held[trade.symbol] -= trade.commission if trade.commission_asset == base else Decimal(0)
        bare = {}
        for symbol, quantity in held.items():
            if quantity < 0:
                wrong.append(f"{-quantity} more of {symbol} was sold than bought")
            stops = [o for o in orders if o.symbol == symbol and str(o.status) in ON_BOOK and o.stop_price]
            covered = sum((o.quantity - o.executed for o in stops), Decimal(0))
            left = quantity - covered
            if left * from_units(exchange.tapes[symbol].last_price) > BARE_WORTH_MIN:
                bare[symbol] = left
        return bare

    @staticmethod
    def _is_noticed(symbol: str) -> bool:
        noticed = _rows(
            "SELECT 1 FROM core_alert WHERE resolved_at IS NULL AND subject = %s "
            "AND kind IN ('position_unprotected', 'protection_failed') "
            "UNION ALL SELECT 1 FROM execution_order WHERE symbol = %s AND status IN "
            "('intent', 'submitted_to_exchange', 'execution_unknown', 'manual_review_required') "
            "UNION ALL SELECT 1 FROM execution_ordercancel c JOIN execution_executionintent i "
            "ON i.id = c.intent_id WHERE i.symbol = %s AND c.status IN ('intent', 'sent', 'unknown')",
            [f"position:{symbol}", symbol, symbol],
        )
        return bool(noticed)

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
        wrong += [
            f"{order.client_order_id} was on the exchange before a wipe, here it is unknown"
            for order in self._past_orders()
            if order.client_order_id not in ours
        ]
        on_exchange = {order.client_order_id for order in [*orders, *self._past_orders()]}
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
        booked = _rows(
            "SELECT count(*) FROM execution_fill WHERE ledger = (SELECT max(ledger) FROM execution_account)"
        )[0][0]
        there = sum(1 for _ in self._exchange.venue.exchange.records.all_trades())
        if not by_hand and booked != there:
            self.lost += there - booked
            wrong.append(f"{there} trades there, {booked} fills here")
        divergences = _rows(
            "SELECT kind, subject, ours::text, theirs::text FROM execution_divergence WHERE closed_at IS NULL"
        )
        wrong += [f"open divergence: {row}" for row in divergences]
        return wrong
