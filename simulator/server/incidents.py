"""Faults that act when they are armed: on sockets, on the clock, on a symbol, on the accounts, on everything."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from simulator.api.order_params import parse_order
from simulator.api.params import Params
from simulator.api.time_units import event_in_microseconds
from simulator.engine.contracts import Account
from simulator.engine.instruments import STATUSES, TRADING
from simulator.faults import AT_ONCE, Fault, FaultKind
from simulator.server.venue import Venue

FOREIGN_ID_PREFIX = "web_"
"""Client ids of orders that people place in Binance's own pages begin so."""


class Incidents:
    """Carries out the faults of `simulator.faults.AT_ONCE` on one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._acts: dict[FaultKind, Callable[[Fault], None]] = {
            FaultKind.CLOSE_WS: self._close_sockets,
            FaultKind.HALF_OPEN: self._fall_silent,
            FaultKind.SERVER_SHUTDOWN: self._shut_down,
            FaultKind.DOWN: self._go_down,
            FaultKind.CLOCK_SKEW: self._skew,
            FaultKind.RATE_LIMIT: self._limit,
            FaultKind.SYMBOL_STATUS: self._set_status,
            FaultKind.FILTER_CHANGE: self._change_filters,
            FaultKind.FOREIGN_ORDER: self._place_order,
            FaultKind.WITHDRAWAL: self._withdraw,
            FaultKind.RESET: self._reset,
        }

    def arm(self, values: dict[str, Any]) -> Fault:
        """Arm a fault; one that acts at once does so now, and only then. Raises ValueError or ExchangeError."""
        faults = self._venue.desk.faults
        fault = faults.arm(values)
        if fault.kind in AT_ONCE:
            try:
                self._acts[fault.kind](fault)
            finally:
                faults.disarm(fault)
        return fault

    def _fired(self, fault: Fault, path: str = "") -> None:
        self._venue.desk.faults.fire(fault, fault.method, path or fault.path, self._venue.now_ms())

    def _close_sockets(self, fault: Fault) -> None:
        for connection in self._venue.connections.under(fault.path):
            if fault.count:
                self._fired(fault, connection.path)
                connection.close_soon(fault.close_code, "closed by a fault")

    def _fall_silent(self, fault: Fault) -> None:
        for connection in self._venue.connections.under(fault.path):
            connection.fall_silent(fault.seconds)
        self._fired(fault)

    def _shut_down(self, fault: Fault) -> None:
        told = {"e": "serverShutdown", "E": self._venue.now_ms()}
        for connection in self._venue.connections.under(fault.path):
            event = event_in_microseconds(told) if connection.microseconds else told
            message: dict[str, Any] = event
            if connection.path == "/stream":
                message = {"stream": "!serverShutdown", "data": event}
            elif connection.path == "/ws-api/v3":
                message = {"event": event}
            connection.send(msgspec.json.encode(message))
            wait_seconds = self._venue.desk.faults.wait_ms(fault) / 1000

            def close(connection: Any = connection) -> None:
                connection.close_soon(fault.close_code, "server shutting down")

            self._venue.later(wait_seconds, close)
        self._fired(fault)

    def _go_down(self, fault: Fault) -> None:
        if not fault.seconds:
            raise ValueError("down needs seconds")
        self._venue.go_down(fault.seconds, fault.mode, fault.status)
        self._fired(fault)

    def _skew(self, fault: Fault) -> None:
        self._venue.skew_ms = fault.ms
        if fault.seconds:
            self._venue.later(fault.seconds, lambda: setattr(self._venue, "skew_ms", 0))
        self._fired(fault)

    def _limit(self, fault: Fault) -> None:
        self._venue.desk.limiter.hold_everybody(self._venue.now_ms() + int(fault.seconds * 1000))
        self._fired(fault)

    def _set_status(self, fault: Fault) -> None:
        symbols = self._symbols(fault)
        if fault.value not in STATUSES:
            raise ValueError(f"value must be one of {', '.join(STATUSES)}")
        for symbol in symbols:
            self._venue.exchange.set_status(symbol, fault.value)
        if fault.seconds:
            self._venue.later(fault.seconds, lambda: self._back_to_trading(symbols))
        self._fired(fault)

    def _back_to_trading(self, symbols: list[str]) -> None:
        for symbol in symbols:
            self._venue.exchange.set_status(symbol, TRADING)

    def _change_filters(self, fault: Fault) -> None:
        self._venue.exchange.change_filters(self._symbols(fault), fault.values)
        self._fired(fault)

    def _place_order(self, fault: Fault) -> None:
        values = {"symbol": fault.symbol, "newClientOrderId": FOREIGN_ID_PREFIX + secrets.token_hex(8)}
        request = parse_order(self._venue.desk, Params.from_json(values | fault.values))
        for account in self._accounts(fault):
            self._venue.exchange.place(account.account_id, request, self._venue.now_ms())
        self._fired(fault)

    def _withdraw(self, fault: Fault) -> None:
        asset = str(fault.values.get("asset", ""))
        try:
            amount = Decimal(str(fault.values.get("amount", "")))
        except InvalidOperation:
            amount = Decimal(0)
        if not asset or not amount.is_finite() or amount <= 0:
            raise ValueError('withdrawal needs values like {"asset": "USDT", "amount": "100"}')
        for account in self._accounts(fault):
            self._venue.exchange.deposit(account.account_id, asset, -amount, self._venue.now_ms())
        self._fired(fault)

    def _reset(self, fault: Fault) -> None:
        self._venue.reset({str(asset): Decimal(str(amount)) for asset, amount in fault.values.items()})
        self._fired(fault)

    def _symbols(self, fault: Fault) -> list[str]:
        """The one named, or all of them."""
        instruments = self._venue.exchange.instruments
        if fault.symbol and fault.symbol not in instruments:
            raise ValueError(f"symbol {fault.symbol!r} is not traded here; known: {', '.join(instruments)}")
        return [fault.symbol] if fault.symbol else list(instruments)

    def _accounts(self, fault: Fault) -> list[Account]:
        """The one whose key was named, or all of them: a scenario file cannot know the keys."""
        exchange = self._venue.exchange
        if not fault.api_key:
            return list(exchange.ledger.accounts.values())
        account_id = exchange.account_ids.get(fault.api_key)
        if account_id is None:
            raise ValueError("no account has this api_key")
        return [exchange.ledger.accounts[account_id]]
