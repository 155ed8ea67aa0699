"""User-data subscriptions of the WS API, and who hears which account's events."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from simulator.api.account_events import account_event
from simulator.api.time_units import event_in_microseconds
from simulator.engine.contracts import AccountEvent
from simulator.engine.errors import ExchangeError
from simulator.faults import EventPipe, FaultBook
from simulator.server.sockets import Connection

SUBSCRIPTION_IDS_MAX = 65_535
"""Of a connection, over its whole life."""


class UserStreams:
    """Subscription ids count up per connection from 0; one subscription per account and connection."""

    def __init__(self, faults: FaultBook) -> None:
        self._pipe: EventPipe[tuple[int, dict[str, Any]]] = EventPipe(faults)
        self._by_account: dict[int, dict[Connection, int]] = defaultdict(dict)
        self._next_id: dict[Connection, int] = {}

    def subscribe(self, connection: Connection, account_id: int) -> int:
        """Begin to send the account's events; -2035 when the connection already gets them."""
        if connection in self._by_account[account_id]:
            raise ExchangeError(-2035, "User Data Stream subscription already active.")
        subscription_id = self._next_id.get(connection, 0)
        if subscription_id >= SUBSCRIPTION_IDS_MAX:
            raise ExchangeError(-2042, "Maximum subscription ID reached for this connection.")
        if connection not in self._next_id:
            connection.on_close.append(lambda: self.forget(connection))
        self._next_id[connection] = subscription_id + 1
        self._by_account[account_id][connection] = subscription_id
        return subscription_id

    def unsubscribe(self, connection: Connection, subscription_id: int | None, now_ms: int) -> None:
        """End one subscription, or all of the connection, with eventStreamTerminated. -2036 when the one named
        is not active."""
        ended = False
        for subscribers in self._by_account.values():
            known = subscribers.get(connection)
            if known is not None and subscription_id in (None, known):
                del subscribers[connection]
                ended = True
                event = {"e": "eventStreamTerminated", "E": now_ms}
                connection.send(_frame(known, event, connection.microseconds))
        if subscription_id is not None and not ended:
            raise ExchangeError(-2036, "User Data Stream subscription not active.")

    def subscriptions(self, connection: Connection) -> list[int]:
        return sorted(
            subscribers[connection] for subscribers in self._by_account.values() if connection in subscribers
        )

    def forget(self, connection: Connection) -> None:
        for subscribers in self._by_account.values():
            subscribers.pop(connection, None)
        self._next_id.pop(connection, None)

    def publish(self, event: AccountEvent, now_ms: int) -> None:
        """Send an event to everybody who listens to its account, as the faults leave it."""
        if not self._by_account.get(event.account_id):
            return
        body = account_event(event)
        item = (event.account_id, body)
        for account_id, due in self._pipe.push(event.account_id, body["e"], body.get("s", ""), item, now_ms):
            self._deliver(account_id, due)

    @property
    def next_due_ms(self) -> int | None:
        """When the next event that a fault holds back is due."""
        return self._pipe.next_due_ms

    def publish_late(self, now_ms: int) -> None:
        """Send the events that a fault held back until now."""
        for account_id, body in self._pipe.due(now_ms):
            self._deliver(account_id, body)

    def _deliver(self, account_id: int, body: dict[str, Any]) -> None:
        for connection, subscription_id in self._by_account.get(account_id, {}).items():
            connection.send(_frame(subscription_id, body, connection.microseconds))


def _frame(subscription_id: int, body: dict[str, Any], microseconds: bool) -> bytes:
    event = event_in_microseconds(body) if microseconds else body
    return msgspec.json.encode({"subscriptionId": subscription_id, "event": event})
