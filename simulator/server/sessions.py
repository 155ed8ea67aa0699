"""Sessions of the WS API: session.logon (Ed25519 keys only), .status, .logout (binance.md §2.1, §7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.api.params import Params
from simulator.api.security import account_of_key, check_signed, check_timestamp
from simulator.engine.contracts import Account, KeyType
from simulator.engine.errors import ExchangeError, missing_parameter
from simulator.engine.exchange import Exchange
from simulator.server.sockets import Connection


@dataclass(slots=True)
class _Session:
    account: Account
    since_ms: int


class Sessions:
    """Who is logged on where. A request without its own apiKey and signature is the session's."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._open: dict[Connection, _Session] = {}

    def logon(self, connection: Connection, params: Params, now_ms: int) -> None:
        """-4056 for a key that is not Ed25519."""
        account = account_of_key(self._exchange, params.text("apiKey"))
        if account.key_type is not KeyType.ED25519:
            raise ExchangeError(-4056, f"{_name(account.key_type)} API key is not supported.")
        check_signed(account, params, params.signed_text(), now_ms)
        if connection not in self._open:
            connection.on_close.append(lambda: self.logout(connection))
        self._open[connection] = _Session(account, now_ms)

    def logout(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def account(self, connection: Connection) -> Account | None:
        session = self._open.get(connection)
        return session.account if session else None

    def authenticate(self, connection: Connection, params: Params, now_ms: int) -> Account:
        """The account that a signed request speaks for. Raises the errors of a signed request."""
        session_account = self.account(connection)
        if session_account is not None and not params.has("apiKey") and not params.has("signature"):
            check_timestamp(params.required("timestamp"), params, now_ms)
            return session_account
        account = account_of_key(self._exchange, params.text("apiKey"))
        check_signed(account, params, params.signed_text(), now_ms)
        return account

    def require(self, connection: Connection) -> Account:
        """The session's account, for methods that work in a session only."""
        account = self.account(connection)
        if account is None:
            raise missing_parameter("apiKey")
        return account

    def status(
        self, connection: Connection, return_limits: bool, subscribed: bool, now_ms: int
    ) -> dict[str, Any]:
        session = self._open.get(connection)
        return {
            "apiKey": session.account.api_key if session else None,
            "authorizedSince": session.since_ms if session else None,
            "connectedSince": connection.connected_ms,
            "returnRateLimits": return_limits,
            "serverTime": now_ms,
            "userDataStream": subscribed,
        }


def _name(key_type: KeyType) -> str:
    return "HMAC_SHA256" if key_type is KeyType.HMAC else key_type
