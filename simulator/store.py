"""The state file: accounts, balances, orders, trades, counters and the market's position, in one SQLite file.

Every command is committed before its answer leaves. WAL with synchronous=NORMAL survives the death of the
process at any instant; a power cut may lose the last commits, which a simulator may.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from simulator.decimals import ZERO
from simulator.engine.contracts import (
    Account,
    Amendment,
    Balance,
    KeyType,
    Order,
    OrderList,
    PreventedMatch,
    Trade,
)
from simulator.engine.exchange import Exchange
from simulator.engine.ledger import House
from simulator.engine.settlement import Changes

FILE_NAME = "simulator.sqlite3"
SCHEMA_VERSION = 2
UPGRADES = {
    "1": (
        "ALTER TABLE accounts ADD COLUMN key_type TEXT NOT NULL DEFAULT 'HMAC'",
        "ALTER TABLE accounts ADD COLUMN pays_in_bnb INTEGER NOT NULL DEFAULT 0",
    )
}
"""What makes a file of the version before one of this version; new tables come by themselves."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (
    account_id INTEGER PRIMARY KEY, api_key TEXT NOT NULL UNIQUE, secret_key TEXT NOT NULL,
    created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
    key_type TEXT NOT NULL DEFAULT 'HMAC', pays_in_bnb INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS balances (
    account_id INTEGER NOT NULL, asset TEXT NOT NULL, free TEXT NOT NULL, locked TEXT NOT NULL,
    PRIMARY KEY (account_id, asset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (
    symbol TEXT NOT NULL, order_id INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (symbol, order_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS order_lists (list_id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS trades (
    symbol TEXT NOT NULL, trade_id INTEGER NOT NULL, order_id INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (symbol, trade_id, order_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prevented_matches (
    symbol TEXT NOT NULL, match_id INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (symbol, match_id))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS amendments (
    symbol TEXT NOT NULL, execution_id INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (symbol, execution_id))
    WITHOUT ROWID;
"""


class StoreError(Exception):
    """The state file cannot be used; the text names it."""


@dataclass(slots=True, frozen=True)
class MarketPosition:
    """Where the market stood: which market it was and the market time that it had reached."""

    identity: str
    market_ms: int
    paused: bool


class Store:
    """One open state file. Not shared between processes: the file is locked while it is open."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._counters: dict[str, int] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
            self._db.executescript(SCHEMA)
        except OSError as error:
            raise StoreError(f"data directory {directory} is not writable: {error.strerror}") from None
        except sqlite3.Error as error:
            raise StoreError(f"state file {self.path} cannot be opened: {error}") from None
        version = self._meta("schema_version")
        if version in UPGRADES:
            with self._transaction():
                for statement in UPGRADES[version]:
                    self._db.execute(statement)
                self._set_meta("schema_version", str(SCHEMA_VERSION))
            version = str(SCHEMA_VERSION)
        if version is None:
            self._set_meta("schema_version", str(SCHEMA_VERSION))
        elif version != str(SCHEMA_VERSION):
            raise StoreError(
                f"state file {self.path} has schema {version}, this program needs {SCHEMA_VERSION}"
            )

    def close(self) -> None:
        self._db.close()

    def restore(self, exchange: Exchange) -> None:
        """Put everything saved into a fresh exchange and audit it. Raises StoreError when it does not fit."""
        query = "SELECT account_id, api_key, secret_key, created_ms, updated_ms, key_type, pays_in_bnb FROM accounts"
        accounts = {
            number: Account(number, key, secret, created, updated, {}, KeyType(kind), bool(in_bnb))
            for number, key, secret, created, updated, kind, in_bnb in self._db.execute(query)
        }
        for party, asset, free, locked in self._db.execute(
            "SELECT account_id, asset, free, locked FROM balances"
        ):
            if party < 0:
                exchange.ledger.restore_house(House(party), asset, Decimal(free))
            else:
                accounts[party].balances[asset] = Balance(Decimal(free), Decimal(locked))
        for account in accounts.values():
            exchange.restore_account(account)
        for (body,) in self._db.execute("SELECT body FROM orders ORDER BY symbol, order_id"):
            order = msgspec.json.decode(body, type=Order)
            if order.symbol not in exchange.instruments and order.is_open:
                raise StoreError(
                    f"state file {self.path} holds an open order on {order.symbol}, which this market does not "
                    "have: start it with the market it was made with, or name another data directory"
                )
            exchange.restore_order(order)
        for (body,) in self._db.execute("SELECT body FROM order_lists ORDER BY list_id"):
            exchange.records.add_list(msgspec.json.decode(body, type=OrderList))
        for (body,) in self._db.execute("SELECT body FROM trades ORDER BY symbol, trade_id, order_id"):
            exchange.records.add_trade(msgspec.json.decode(body, type=Trade))
        for (body,) in self._db.execute("SELECT body FROM prevented_matches ORDER BY symbol, match_id"):
            exchange.records.add_prevented(msgspec.json.decode(body, type=PreventedMatch))
        for (body,) in self._db.execute("SELECT body FROM amendments ORDER BY symbol, execution_id"):
            exchange.records.add_amendment(msgspec.json.decode(body, type=Amendment))
        exchange.records.counters.update(self._db.execute("SELECT name, value FROM counters"))
        exchange.audit()

    def market_position(self) -> MarketPosition | None:
        text = self._meta("market")
        return msgspec.json.decode(text, type=MarketPosition) if text else None

    def save(self, exchange: Exchange, changes: Changes, position: MarketPosition) -> None:
        """Commit what has changed, together with the market's position. Raises StoreError, e.g. for a full disk."""
        try:
            with self._transaction():
                self._set_meta("market", msgspec.json.encode(position).decode())
                if changes:
                    self._save_changes(exchange, changes)
        except sqlite3.Error as error:
            raise StoreError(f"state file {self.path} cannot be written: {error}") from error

    def _save_changes(self, exchange: Exchange, changes: Changes) -> None:
        accounts = exchange.ledger.accounts
        self._db.executemany(
            # Not REPLACE: that would write the index of the keys anew at every command.
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id) DO UPDATE SET "
            "updated_ms = excluded.updated_ms, pays_in_bnb = excluded.pays_in_bnb",
            [
                (a.account_id, a.api_key, a.secret_key, a.created_ms, a.updated_ms, a.key_type, a.pays_in_bnb)
                for a in (accounts[account_id] for account_id in changes.accounts)
            ],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?)",
            [self._balance_row(exchange, party, asset) for party, asset in changes.balances],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO orders VALUES (?, ?, ?)",
            [(symbol, order_id, msgspec.json.encode(o)) for (symbol, order_id), o in changes.orders.items()],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO order_lists VALUES (?, ?)",
            [(list_id, msgspec.json.encode(order_list)) for list_id, order_list in changes.lists.items()],
        )
        self._db.executemany(
            "INSERT INTO trades VALUES (?, ?, ?, ?)",
            [(t.symbol, t.trade_id, t.order_id, msgspec.json.encode(t)) for t in changes.trades],
        )
        self._db.executemany(
            "INSERT INTO prevented_matches VALUES (?, ?, ?)",
            [(match.symbol, match.match_id, msgspec.json.encode(match)) for match in changes.prevented],
        )
        self._db.executemany(
            "INSERT INTO amendments VALUES (?, ?, ?)",
            [(one.symbol, one.execution_id, msgspec.json.encode(one)) for one in changes.amendments],
        )
        counters = exchange.records.counters
        self._db.executemany(
            "INSERT OR REPLACE INTO counters VALUES (?, ?)", counters.items() - self._counters.items()
        )
        self._counters = dict(counters)

    def wipe(self) -> None:
        """Forget every order, list, trade, balance and counter; the accounts with their keys stay."""
        self._counters = {}
        with self._transaction():
            for table in (
                "balances",
                "orders",
                "order_lists",
                "trades",
                "prevented_matches",
                "amendments",
                "counters",
            ):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names

    @staticmethod
    def _balance_row(exchange: Exchange, party: int, asset: str) -> tuple[int, str, str, str]:
        if party < 0:
            return int(party), asset, str(exchange.ledger.house[House(party)][asset]), str(ZERO)
        balance = exchange.ledger.balance(party, asset)
        return party, asset, str(balance.free), str(balance.locked)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def _set_meta(self, name: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
