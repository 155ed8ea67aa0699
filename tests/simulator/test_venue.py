"""A venue over restarts, with clocks that the test turns."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from simulator.api.desk import Call
from simulator.api.params import Params
from simulator.api.public import klines
from simulator.engine.contracts import OrderStatus
from simulator.market.candles import DAY_MS, HOUR_MS, MINUTE_MS
from simulator.server import Venue, VenueSettings
from tests.simulator.market_builder import SYMBOL, limit, stored

START_MS = 1_790_000_000_000
HISTORY_MINUTES = 400


class Clocks:
    """Wall and monotonic clock that only move when told."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def wall(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def venue(clocks: Clocks, data: Path | None = None, speed: float = 1.0, seed: int = 7) -> Venue:
    settings = VenueSettings(seed=seed, speed=speed, data=data, history_minutes=HISTORY_MINUTES)
    return Venue(settings, clocks.wall, clocks.monotonic)


def candles(venue: Venue) -> dict[int, list[object]]:
    params = Params({"symbol": SYMBOL, "interval": "1m", "limit": "1000"})
    return {row[0]: row for row in klines(venue.desk, Call(params, "GET", "/api/v3/klines", 0))}


def run(venue: Venue) -> None:
    while not venue.run_market(1_000):
        pass


def test_first_start_has_a_thousand_closed_candles_up_to_now(clocks: Clocks) -> None:
    rows = list(candles(Venue(VenueSettings(), clocks.wall, clocks.monotonic)).values())

    assert len(rows) == 1000
    assert rows[-1][0] == START_MS // MINUTE_MS * MINUTE_MS
    assert [b[0] - a[0] for a, b in pairwise(rows)] == [MINUTE_MS] * 999


def test_market_follows_its_clock_at_speed(clocks: Clocks) -> None:
    quick = venue(clocks, speed=60)
    clocks.now_ms += 10_000

    run(quick)

    assert quick.exchange.tapes[SYMBOL].candles_played == 10
    assert abs(quick.exchange.tapes[SYMBOL].last_ms - (START_MS + 600_000)) < 5_000


@pytest.mark.parametrize("away_ms", [3 * HOUR_MS, 30 * DAY_MS])
def test_generated_market_has_the_minutes_that_the_server_was_away(
    clocks: Clocks, tmp_path: Path, away_ms: int
) -> None:
    first = venue(clocks, tmp_path)
    before = candles(first)
    first.close()
    clocks.now_ms += away_ms

    after = candles(venue(clocks, tmp_path))

    assert max(after) == clocks.now_ms // MINUTE_MS * MINUTE_MS
    assert sorted(after) == list(range(min(after), max(after) + 1, MINUTE_MS))
    shared = (set(before) & set(after)) - {max(before)}
    assert all(before[open_ms] == after[open_ms] for open_ms in shared)
    assert bool(shared) == (away_ms < DAY_MS)


def test_quick_market_goes_on_in_its_own_time_after_a_restart(clocks: Clocks, tmp_path: Path) -> None:
    first = venue(clocks, tmp_path, speed=60)
    clocks.now_ms += 60_000
    run(first)
    reached = first.position().market_ms
    first.close()
    clocks.now_ms += 600_000

    assert venue(clocks, tmp_path, speed=60).position().market_ms == reached


def test_paused_market_is_paused_after_a_restart(clocks: Clocks, tmp_path: Path) -> None:
    first = venue(clocks, tmp_path)
    first.clock.set_paused(True)
    first.close()

    assert venue(clocks, tmp_path).clock.paused


def test_another_seed_keeps_the_accounts_and_makes_another_market(clocks: Clocks, tmp_path: Path) -> None:
    first = venue(clocks, tmp_path)
    key = "K" * 64
    first.execute(lambda: first.exchange.open_account(key, "secret", clocks.now_ms))
    first.close()

    second = venue(clocks, tmp_path, seed=8)

    assert key in second.exchange.account_ids
    assert second.identity != first.identity


def test_resting_order_that_the_price_has_passed_meanwhile_is_filled_at_the_restart(
    clocks: Clocks, tmp_path: Path
) -> None:
    first = venue(clocks, tmp_path)
    tape = first.exchange.tapes[SYMBOL]
    later = tape.source.next_after(START_MS + HOUR_MS)
    assert later is not None
    rising = later.open > tape.last_price
    price = Decimal((later.open + tape.last_price) // 2 // 10**6) / 100

    def open_and_place() -> object:
        account = first.exchange.open_account("K" * 64, "secret", clocks.now_ms)
        first.exchange.deposit(account.account_id, "USDT", Decimal(100_000), clocks.now_ms)
        first.exchange.deposit(account.account_id, "BTC", Decimal(1), clocks.now_ms)
        side = "SELL" if rising else "BUY"
        return first.exchange.place(account.account_id, limit(side, price, "0.01"), clocks.now_ms)

    placement = first.execute(open_and_place)
    first.close()
    clocks.now_ms += HOUR_MS

    second = venue(clocks, tmp_path)

    order = stored(second.exchange, placement)  # type: ignore[arg-type]
    assert order.status is OrderStatus.FILLED
    assert order.executed_quote == price * Decimal("0.01")
    second.exchange.audit()


def test_books_that_do_not_add_up_end_the_process_and_save_nothing(clocks: Clocks, tmp_path: Path) -> None:
    broken = venue(clocks, tmp_path)

    def create_money() -> None:
        account = broken.exchange.open_account("K" * 64, "secret", clocks.now_ms)
        broken.exchange.ledger._change(account.account_id, "USDT", Decimal(1), locked=False)
        broken.exchange.deposit(account.account_id, "USDT", Decimal(1), clocks.now_ms)

    with pytest.raises(SystemExit, match="do not add up"):
        broken.execute(create_money)

    assert broken.store is None


def test_state_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "simulator.sqlite3")
    db.executescript(
        """
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE accounts (
            account_id INTEGER PRIMARY KEY, api_key TEXT NOT NULL UNIQUE, secret_key TEXT NOT NULL,
            created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL);
        CREATE TABLE orders (
            symbol TEXT NOT NULL, order_id INTEGER NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (symbol, order_id)) WITHOUT ROWID;
        CREATE TABLE balances (
            account_id INTEGER NOT NULL, asset TEXT NOT NULL, free TEXT NOT NULL, locked TEXT NOT NULL,
            PRIMARY KEY (account_id, asset)) WITHOUT ROWID;
        INSERT INTO meta VALUES ('schema_version', '1');
        INSERT INTO accounts VALUES (1, 'key', 'secret', 5, 6);
        INSERT INTO balances VALUES (1, 'USDT', '90', '10'), (-3, 'USDT', '-100', '0');
        """
    )
    order = {
        "symbol": "BTCUSDT", "order_id": 1, "account_id": 1, "client_order_id": "old", "side": "BUY",
        "type": "LIMIT", "time_in_force": "GTC", "price": "10000", "quantity": "0.001", "quote_quantity": "0",
        "self_trade_prevention": "EXPIRE_MAKER", "locked_asset": "USDT", "created_ms": 5, "updated_ms": 5,
        "working_ms": 5, "locked": "10", "executed": "0", "executed_quote": "0", "status": "NEW",
        "expiry_reason": None,
    }  # fmt: skip
    db.execute("INSERT INTO orders VALUES ('BTCUSDT', 1, ?)", (json.dumps(order).encode(),))
    db.commit()
    db.close()

    venue = Venue(VenueSettings(seed=7, data=tmp_path))
    restored = venue.exchange.records.by_id(1, "BTCUSDT", 1)
    account = venue.exchange.ledger.accounts[1]
    venue.exchange.cancel(restored, "c", 7)
    venue.close()
    Venue(VenueSettings(seed=7, data=tmp_path)).close()

    assert (account.key_type, account.pays_in_bnb) == ("HMAC", False)
    assert account.balances["USDT"].free == 100
