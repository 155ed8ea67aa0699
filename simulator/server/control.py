"""/sim: open accounts, move money, freeze the market, arm faults, read the exchange's own truth.

Answers on loopback only. Errors are {"error": sentence}.
"""

from __future__ import annotations

import math
import re
import secrets
import string
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from simulator.api.render import list_json, my_trade, order_query
from simulator.api.security import public_key_problem
from simulator.decimals import money_text, units_text
from simulator.engine.contracts import KeyType, Side
from simulator.engine.errors import ExchangeError
from simulator.market.path import TICKS_PER_CANDLE
from simulator.market.sources import GeneratedSource
from simulator.server.incidents import Incidents
from simulator.server.venue import Venue

LOOPBACK = frozenset({"127.0.0.1", "::1"})
ASSET = re.compile(r"^[A-Z0-9]{2,12}$")
AMOUNT = re.compile(r"^-?[0-9]{1,15}(\.[0-9]{1,8})?$")
KEY_ALPHABET = string.ascii_letters + string.digits
# Nobody can take these for keys of a real exchange.
API_KEY_PREFIX = "SIMKEY"
SIGNING_KEY_PREFIX = "SIMSECRET"
KEY_LENGTH = 64
BOOK_LEVELS = 20
SPEED_MAX = 100_000.0
STEP_MS_MAX = 7 * 86_400_000


class Control:
    """The control paths of one venue."""

    def __init__(self, venue: Venue, incidents: Incidents) -> None:
        self._venue = venue
        self._incidents = incidents

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/sim/accounts", self._handler(self.open_account)),
            web.get("/sim/accounts", self._handler(self.accounts)),
            web.post("/sim/deposit", self._handler(self.deposit)),
            web.get("/sim/orders", self._handler(self.orders)),
            web.get("/sim/ledger", self._handler(self.ledger)),
            web.get("/sim/books", self._handler(self.books)),
            web.get("/sim/market", self._handler(self.market)),
            web.post("/sim/market", self._handler(self.set_market)),
            web.post("/sim/clock", self._handler(self.set_clock)),
            web.post("/sim/reset", self._handler(self.reset)),
            web.post("/sim/bnb", self._handler(self.set_bnb)),
            web.get("/sim/faults", self._handler(self.faults)),
            web.post("/sim/faults", self._handler(self.arm_fault)),
            web.delete("/sim/faults", self._handler(self.disarm_faults)),
            web.delete("/sim/limits", self._handler(self.forget_limits)),
        ]

    def _handler(self, answer: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            # A page in a browser on this machine comes from loopback, too, but it names its origin.
            if request.remote not in LOOPBACK or "Origin" in request.headers:
                return _json({"error": "the control paths answer on loopback only"}, 403)
            try:
                body = _object(await request.read()) if request.method == "POST" else {}
                result = self._venue.execute(lambda: answer(body))
            except ValueError as error:
                return _json({"error": str(error)}, 400)
            except ExchangeError as error:
                return _json({"error": error.message, "code": error.code}, error.status)
            return _json(result)

        return handle

    def open_account(self, body: dict[str, Any]) -> dict[str, Any]:
        """{"balances": {"USDT": "10000"}} -> {"apiKey", "secretKey", "uid"}; with {"keyType": "RSA" | "ED25519",
        "publicKey": PEM} there is no secretKey."""
        balances = body.get("balances", {})
        _only(body, {"balances", "keyType", "publicKey", "bnbBurn"})
        if not isinstance(balances, dict):
            raise ValueError("balances must be an object of asset and amount")
        key_type, secret = _signing_key(body)
        pays_in_bnb = _boolean(body.get("bnbBurn", False), "bnbBurn")
        amounts = {_asset(asset): _amount(amount) for asset, amount in balances.items()}
        if any(amount < 0 for amount in amounts.values()):
            raise ValueError("opening balances must not be negative")
        now_ms = self._venue.now_ms()
        account = self._venue.exchange.open_account(
            _key(API_KEY_PREFIX), secret, now_ms, key_type, pays_in_bnb
        )
        for asset, amount in amounts.items():
            if amount:
                self._venue.exchange.deposit(account.account_id, asset, amount, now_ms)
        opened = {"apiKey": account.api_key, "uid": account.account_id}
        return opened | {"secretKey": secret} if key_type is KeyType.HMAC else opened

    def set_bnb(self, body: dict[str, Any]) -> dict[str, Any]:
        """{"apiKey", "bnbBurn": true|false}: pay commission in BNB or not."""
        _only(body, {"apiKey", "bnbBurn"})
        wanted = _boolean(body.get("bnbBurn"), "bnbBurn")
        self._venue.exchange.set_pays_in_bnb(self._account_id(body), wanted)
        return {"bnbBurn": wanted}

    def _account_id(self, body: dict[str, Any]) -> int:
        account_id = self._venue.exchange.account_ids.get(str(body.get("apiKey")))
        if account_id is None:
            raise ValueError("no account has this apiKey")
        return account_id

    def accounts(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Keys (never secrets) and balances."""
        return [
            {
                "uid": account.account_id,
                "apiKey": account.api_key,
                "createTime": account.created_ms,
                "balances": {
                    asset: {"free": money_text(balance.free), "locked": money_text(balance.locked)}
                    for asset, balance in sorted(account.balances.items())
                },
            }
            for account in self._venue.exchange.ledger.accounts.values()
        ]

    def deposit(self, body: dict[str, Any]) -> dict[str, Any]:
        """{"apiKey", "asset", "amount"}: a negative amount is a withdrawal."""
        _only(body, {"apiKey", "asset", "amount"})
        account_id = self._account_id(body)
        asset, amount = _asset(body.get("asset")), _amount(body.get("amount"))
        if not amount:
            raise ValueError("amount must not be zero")
        self._venue.exchange.deposit(account_id, asset, amount, self._venue.now_ms())
        balance = self._venue.exchange.ledger.balance(account_id, asset)
        return {"asset": asset, "free": money_text(balance.free), "locked": money_text(balance.locked)}

    def orders(self, body: dict[str, Any]) -> dict[str, Any]:
        """Every order, order list and fill of every account."""
        records = self._venue.exchange.records
        return {
            "lists": [
                list_json(order_list, records.legs(order_list)) | {"uid": order_list.account_id}
                for order_list in records.lists.values()
            ],
            "orders": [order_query(order) | {"uid": order.account_id} for order in records.all_orders()],
            "trades": [my_trade(trade) | {"uid": trade.account_id} for trade in records.all_trades()],
        }

    def ledger(self, body: dict[str, Any]) -> dict[str, Any]:
        """Every balance, the house included, after a fresh audit; totals are zero."""
        exchange = self._venue.exchange
        exchange.audit()
        return {
            "accounts": self.accounts(body),
            "house": {
                party.name: {asset: f"{amount:f}" for asset, amount in sorted(amounts.items())}
                for party, amounts in exchange.ledger.house.items()
            },
            "totals": {
                asset: money_text(total) for asset, total in sorted(exchange.ledger.recount().items())
            },
        }

    def books(self, body: dict[str, Any]) -> dict[str, Any]:
        """Best levels of each symbol, and the accounts' own resting orders."""
        answer = {}
        for symbol, book in self._venue.exchange.books.items():
            answer[symbol] = {
                "bids": [[money_text(p), money_text(q)] for p, q in book.depth(Side.BUY, BOOK_LEVELS)],
                "asks": [[money_text(p), money_text(q)] for p, q in book.depth(Side.SELL, BOOK_LEVELS)],
                "resting": [
                    order_query(order) | {"uid": order.account_id}
                    for side in Side
                    for order in book.resting(side)
                ],
            }
        return answer

    def market(self, body: dict[str, Any]) -> dict[str, Any]:
        """Seed, speed, market time and how far each symbol has come."""
        venue = self._venue
        return {
            "identity": venue.identity,
            "seed": venue.settings.seed,
            "replay": [str(path) for path in venue.settings.replay],
            "speed": venue.clock.speed,
            "paused": venue.clock.paused,
            "ended": venue.ended,
            "market_time_ms": venue.position().market_ms,
            "server_time_ms": venue.now_ms(),
            "ticks_per_candle": TICKS_PER_CANDLE,
            "connections": len(venue.connections),
            "symbols": {
                symbol: {
                    "last_price": units_text(tape.last_price),
                    "candles_closed": len(tape.series),
                    "candles_played": tape.candles_played,
                    "ended": tape.ended,
                    "phase": _phase(tape.source, tape.last_ms),
                }
                for symbol, tape in venue.exchange.tapes.items()
            },
        }

    def set_market(self, body: dict[str, Any]) -> dict[str, Any]:
        """{"paused": true|false} freezes or releases market time."""
        _only(body, {"paused"})
        if not isinstance(body.get("paused"), bool):
            raise ValueError("paused must be true or false")
        self._venue.clock.set_paused(body["paused"])
        self._venue.save_position()
        return self.market({})

    def set_clock(self, body: dict[str, Any]) -> dict[str, Any]:
        """{"mode": "real" | "scaled" | "stepped"}, with "speed" for scaled; {"step_ms": n} moves a stepped one.

        Only market time: server time stays the wall's, because clients sign with theirs.
        """
        _only(body, {"mode", "speed", "step_ms"})
        clock, mode, step_ms = self._venue.clock, body.get("mode"), body.get("step_ms")
        if mode not in (None, "real", "scaled", "stepped") or (mode is None and step_ms is None):
            raise ValueError("mode must be real, scaled or stepped")
        speed = body.get("speed", 1)
        if (mode == "scaled") != ("speed" in body) or isinstance(speed, bool) or not _is_speed(speed):
            raise ValueError(f"scaled, and only scaled, needs a speed above 0 and at most {SPEED_MAX:.0f}")
        stepped = mode == "stepped" or (mode is None and clock.paused)
        if step_ms is not None and not (stepped and type(step_ms) is int and 0 < step_ms <= STEP_MS_MAX):
            raise ValueError(f"step_ms must be 1 to {STEP_MS_MAX} milliseconds, of a stepped clock")
        if mode in ("real", "scaled"):
            clock.set_speed(float(speed))
        if mode is not None:
            clock.set_paused(mode == "stepped")
        if step_ms is not None:
            self._venue.step_market(step_ms)
        self._venue.save_position()
        return self.market({})

    def reset(self, body: dict[str, Any]) -> dict[str, Any]:
        """The testnet's monthly wipe: {"balances": {...}} is what every account has afterwards."""
        _only(body, {"balances"})
        balances = body.get("balances", {})
        if not isinstance(balances, dict):
            raise ValueError("balances must be an object of asset and amount")
        grant = {_asset(asset): _amount(amount) for asset, amount in balances.items()}
        if any(amount <= 0 for amount in grant.values()):
            raise ValueError("balances must be above zero")
        self._venue.reset(grant)
        return {"accounts": len(self._venue.exchange.ledger.accounts)}

    def faults(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Every fault with what is left of it and when it fired."""
        return self._venue.desk.faults.listing()

    def arm_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        """Arm a fault (simulator.faults.FaultKind says which there are); some act at once."""
        fault = self._incidents.arm(body)
        return {"fault_id": fault.fault_id, "count": fault.count}

    def forget_limits(self, body: dict[str, Any]) -> dict[str, Any]:
        """Count request weight and orders from nothing again, and lift every ban."""
        self._venue.desk.limiter.forget()
        return {}

    def disarm_faults(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        self._venue.desk.faults.disarm_all()
        return self.faults(body)


def _phase(source: Any, market_ms: int) -> str | None:
    return source.phase(market_ms // 60_000) if isinstance(source, GeneratedSource) else None


def _signing_key(body: dict[str, Any]) -> tuple[KeyType, str]:
    """The key type, and what its signatures are checked with: a new secret, or the public key that was sent."""
    try:
        key_type = KeyType(body.get("keyType", KeyType.HMAC))
    except ValueError:
        raise ValueError(f"keyType must be one of {', '.join(KeyType)}") from None
    public_key = body.get("publicKey")
    if key_type is KeyType.HMAC:
        if public_key is not None:
            raise ValueError("an HMAC key has no publicKey")
        return key_type, _key(SIGNING_KEY_PREFIX)
    if not isinstance(public_key, str):
        raise ValueError("publicKey must be the PEM text of a public key")
    problem = public_key_problem(key_type, public_key)
    if problem is not None:
        raise ValueError(problem)
    return key_type, public_key


def _boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false")
    return value


def _is_speed(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 < value <= SPEED_MAX


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _only(body: dict[str, Any], known: set[str]) -> None:
    unknown = set(body) - known
    if unknown:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")


def _asset(value: Any) -> str:
    if not isinstance(value, str) or not ASSET.match(value):
        raise ValueError(f"asset {value!r} is not an asset name like USDT")
    return value


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str) or not AMOUNT.match(value):
        raise ValueError(f'amount {value!r} must be a decimal number as text, like "12.5"')
    return Decimal(value)


def _key(prefix: str) -> str:
    return prefix + "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH - len(prefix)))


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
