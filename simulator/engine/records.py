"""Orders and trades by every key that they are asked for, and the counters that number them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from simulator.engine.contracts import Amendment, Order, OrderList, PreventedMatch, Trade


class Records:
    """Indexes over all orders and trades. Order and trade ids count up per symbol from 1."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = defaultdict(int)
        self._orders: dict[str, dict[int, Order]] = defaultdict(dict)
        self._by_client_id: dict[tuple[int, str, str], Order] = {}
        self._by_account: dict[tuple[int, str], list[Order]] = defaultdict(list)
        self._open: dict[int, dict[tuple[str, int], Order]] = defaultdict(dict)
        self._open_client_ids: dict[tuple[int, str], Order] = {}
        self._trades: dict[tuple[int, str], list[Trade]] = defaultdict(list)
        self._prevented: dict[tuple[int, str], list[PreventedMatch]] = defaultdict(list)
        self._amendments: dict[tuple[str, int], list[Amendment]] = defaultdict(list)
        self.lists: dict[int, OrderList] = {}
        self._open_lists: dict[int, dict[int, OrderList]] = defaultdict(dict)

    def clear(self) -> None:
        """Forget everything but how many accounts there are."""
        accounts = self.counters["account"]
        for index in (
            self.counters, self._orders, self._by_client_id, self._by_account, self._open,
            self._open_client_ids, self._trades, self._prevented, self._amendments, self.lists,
            self._open_lists,
        ):  # fmt: skip
            index.clear()
        self.counters["account"] = accounts

    def next_id(self, counter: str) -> int:
        self.counters[counter] += 1
        return self.counters[counter]

    def add(self, order: Order) -> None:
        """Index an order; also used to restore a saved one."""
        self._orders[order.symbol][order.order_id] = order
        # After a client id was used again, the latest order answers to it.
        self._by_client_id[(order.account_id, order.symbol, order.client_order_id)] = order
        self._by_account[(order.account_id, order.symbol)].append(order)
        if order.is_open:
            self._open[order.account_id][(order.symbol, order.order_id)] = order
            self._open_client_ids[(order.account_id, order.client_order_id)] = order

    def close(self, order: Order) -> None:
        del self._open[order.account_id][(order.symbol, order.order_id)]
        del self._open_client_ids[(order.account_id, order.client_order_id)]

    def add_list(self, order_list: OrderList) -> None:
        """Index an order list; also used to restore a saved one."""
        self.lists[order_list.list_id] = order_list
        if not order_list.is_done:
            self._open_lists[order_list.account_id][order_list.list_id] = order_list

    def close_list(self, order_list: OrderList) -> None:
        order_list.is_done = True
        del self._open_lists[order_list.account_id][order_list.list_id]

    def open_lists(self, account_id: int, symbol: str | None = None) -> list[OrderList]:
        """Open order lists of an account, oldest first."""
        lists = self._open_lists[account_id].values()
        return [order_list for order_list in lists if symbol in (None, order_list.symbol)]

    def lists_of(self, account_id: int) -> list[OrderList]:
        """Every order list of an account, ascending by id."""
        return [order_list for order_list in self.lists.values() if order_list.account_id == account_id]

    def legs(self, order_list: OrderList) -> list[Order]:
        """The orders of a list, the working leg first."""
        orders = self._orders[order_list.symbol]
        return [orders[order_id] for order_id in order_list.order_ids]

    def add_trade(self, trade: Trade) -> None:
        self._trades[(trade.account_id, trade.symbol)].append(trade)

    def add_prevented(self, match: PreventedMatch) -> None:
        self._prevented[(match.account_id, match.symbol)].append(match)

    def prevented_of(self, account_id: int, symbol: str) -> list[PreventedMatch]:
        """Every prevented match of an account on a symbol, ascending by id."""
        return self._prevented[(account_id, symbol)]

    def add_amendment(self, amendment: Amendment) -> None:
        self._amendments[(amendment.symbol, amendment.order_id)].append(amendment)

    def amendments_of(self, order: Order) -> list[Amendment]:
        """Every amendment of an order, the first one first."""
        return self._amendments[(order.symbol, order.order_id)]

    def rename(self, order: Order, client_order_id: str) -> None:
        """An amended order answers to its new client id."""
        self._by_client_id.pop((order.account_id, order.symbol, order.client_order_id), None)
        del self._open_client_ids[(order.account_id, order.client_order_id)]
        order.client_order_id = client_order_id
        self._by_client_id[(order.account_id, order.symbol, client_order_id)] = order
        self._open_client_ids[(order.account_id, client_order_id)] = order

    def by_id(self, account_id: int, symbol: str, order_id: int) -> Order | None:
        order = self._orders[symbol].get(order_id)
        return order if order is not None and order.account_id == account_id else None

    def by_client_id(self, account_id: int, symbol: str, client_order_id: str) -> Order | None:
        return self._by_client_id.get((account_id, symbol, client_order_id))

    def open_with_client_id(self, account_id: int, client_order_id: str) -> Order | None:
        """Client ids are unique among an account's open orders of all symbols (the stricter reading)."""
        return self._open_client_ids.get((account_id, client_order_id))

    def open_orders(self, account_id: int, symbol: str | None = None) -> list[Order]:
        """Open orders of an account, oldest first within a symbol."""
        orders = self._open[account_id].values()
        return sorted(
            (order for order in orders if symbol in (None, order.symbol)),
            key=lambda order: (order.symbol, order.order_id),
        )

    def all_open(self) -> Iterator[Order]:
        for orders in self._open.values():
            yield from orders.values()

    def all_orders(self) -> Iterator[Order]:
        for orders in self._orders.values():
            yield from orders.values()

    def orders_of(self, account_id: int, symbol: str) -> list[Order]:
        """Every order of an account on a symbol, ascending by id."""
        return self._by_account[(account_id, symbol)]

    def trades_of(self, account_id: int, symbol: str) -> list[Trade]:
        """Every trade of an account on a symbol, ascending by id."""
        return self._trades[(account_id, symbol)]

    def all_trades(self) -> Iterator[Trade]:
        for trades in self._trades.values():
            yield from trades
