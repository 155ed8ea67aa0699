"""User-data subscriptions of the WS API, and who hears which account's events."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from simulator.api.account_events import account_event
from simulator.engine.contracts import AccountEvent
from simulator.engine.errors import ExchangeError
from simulator.faults import FaultBook, FaultKind
from simulator.server.sockets import Connection

SUBSCRIPTIONS_PER_CONNECTION_MAX = 1_000


class UserStreams:
    """Subscription ids count up per connection from 0; one subscription per account and connection."""

    def __init__(self) -> None:
        self._by_account: dict[int, dict[Connection, int]] = defaultdict(dict)
        self._next_id: dict[Connection, int] = {}

    def subscribe(self, connection: Connection, account_id: int) -> int:
        """Begin to send the account's events; -2035 when the connection already gets them."""
        if connection in self._by_account[account_id]:
            raise ExchangeError(-2035, "Subscription already active.")
        subscription_id = self._next_id.get(connection, 0)
        if connection not in self._next_id:
            connection.on_close.append(lambda: self.forget(connection))
        self._next_id[connection] = subscription_id + 1
        self._by_account[account_id][connection] = subscription_id
        return subscription_id

    def unsubscribe(self, connection: Connection, subscription_id: int | None) -> None:
        """End one subscription, or all of the connection. -2036 when the one named is not active."""
        ended = False
        for subscribers in self._by_account.values():
            known = subscribers.get(connection)
            if known is not None and subscription_id in (None, known):
                del subscribers[connection]
                ended = True
        if subscription_id is not None and not ended:
            raise ExchangeError(-2036, "Subscription is not active.")

    def subscriptions(self, connection: Connection) -> list[int]:
        return sorted(
            subscribers[connection] for subscribers in self._by_account.values() if connection in subscribers
        )

    def forget(self, connection: Connection) -> None:
        for subscribers in self._by_account.values():
            subscribers.pop(connection, None)
        self._next_id.pop(connection, None)

    def publish(self, event: AccountEvent, faults: FaultBook, now_ms: int) -> None:
        """Send an event to everybody who listens to its account."""
        listeners = self._by_account.get(event.account_id)
        if not listeners:
            return
        body = account_event(event)
        if faults.take(FaultKind.MUTE_USER_EVENTS, "WS", body["e"], now_ms):
            return
        encoded = msgspec.json.encode(body)
        for connection, subscription_id in listeners.items():
            connection.send(b'{"subscriptionId":%d,"event":%b}' % (subscription_id, encoded))
