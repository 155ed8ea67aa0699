"""A model server, a market of rows, and proposals brought to a state by the real services."""

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from market.models import Candle, Snapshot
from proposals import services
from proposals.contracts import AdvisorAccount, HeldPosition, OrderType, QuantisedOrder, Side, TimeInForce
from proposals.models import Decision, Proposal, Strategy
from tests.proposals.model_server import Server
from tradingbot.core.audit import canonical_json, sha256_hex

SYMBOL = "BTCUSDT"
KEY = "sk-obviously-fake-key-0123456789"
PASS = [{"name": "spread", "verdict": "pass", "observed": "1", "limit": "5", "unit": "bps", "reason": ""}]


@pytest.fixture
def model_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The OpenAI-compatible server that the settings point at."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setattr(settings, "OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def strategy(db: None) -> Strategy:
    """A strategy of one symbol; the one that the migrations make is switched off."""
    Strategy.objects.update(enabled=False)
    return Strategy.objects.create(name="under test", symbols=[SYMBOL], min_seconds_between=20)


account = AdvisorAccount(
    free_quote=Decimal("1000.50"),
    free_base=Decimal("0"),
    position=None,
    limits_remaining={"order_notional_quote": "100"},
)


def account_of(symbol: str, now: datetime) -> AdvisorAccount:
    """Stands where execution fills in the account."""
    return account


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch, now: datetime, db: None) -> Callable[..., Candle]:
    """Snapshots as market writes them; call it to close a candle."""
    monkeypatch.setattr(settings, "ADVISOR_ACCOUNT", "tests.proposals.conftest.account_of")
    monkeypatch.setattr("market.services.take_snapshot", take_snapshot, raising=False)

    def close_candle(minutes: int = 0, symbol: str = SYMBOL) -> Candle:
        opened = datetime(2023, 3, 10, 9, 0, tzinfo=now.tzinfo) + timedelta(minutes=minutes)
        return Candle.objects.create(
            environment=settings.TRADING_ENVIRONMENT,
            symbol=symbol,
            interval="1m",
            open_time=opened,
            close_time=opened + timedelta(seconds=59, milliseconds=999),
            open=Decimal("20000"),
            high=Decimal("20010"),
            low=Decimal("19990"),
            close=Decimal("20000"),
            volume=Decimal("3"),
            quote_volume=Decimal("60000"),
            trade_count=9,
            received_at=now,
        )

    close_candle()
    return close_candle


def take_snapshot(*, symbol: str, interval: str, now: datetime) -> Snapshot:
    """What market.services writes."""
    key = uuid.uuid4()
    payload = {
        "snapshot_id": str(key),
        "as_of": "2023-03-10T09:00:59.999Z",
        "symbol": symbol,
        "interval": str(interval),
        "quote": {
            "bid": "19999.9",
            "ask": "20000.1",
            "bid_quantity": "1",
            "ask_quantity": "2",
            "spread_bps": "0.1",
        },
        "filters": {"tick_size": "0.01", "step_size": "0.00001", "min_notional": "5"},
        "facts": [{"id": "rsi14", "value": "61.5"}, {"id": "ema20", "value": "19980.25"}],
        "candles": [["2023-03-10T09:00:00Z", "20000", "20010", "19990", "20000", "3"]],
        "ages_seconds": {"quote": "0.4"},
        "indicator_version": "1",
    }
    return Snapshot.objects.create(
        id=key,
        environment=settings.TRADING_ENVIRONMENT,
        symbol=symbol,
        interval=str(interval),
        as_of=now,
        payload=payload,
        sha256=sha256_hex(canonical_json(payload)),
        indicator_version="1",
        created_at=now,
    )


def buy(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A valid BUY on the snapshot `data`."""
    return {
        "schema_version": "1",
        "snapshot_id": data["snapshot_id"],
        "symbol": data["symbol"],
        "facts": [data["facts"][0]],
        "reasons": "Momentum is up.",
        "action": "BUY",
        "no_trade_reason": None,
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "limit_price": "20000",
        "stop_price": "19800",
        "target_price": "20400",
        "quote_amount": "50",
        "position_share_pct": None,
        "confidence_pct": 60,
        "valid_for_seconds": 120,
        **changes,
    }


NO_ORDER = dict.fromkeys(
    (
        "order_type",
        "time_in_force",
        "limit_price",
        "stop_price",
        "target_price",
        "quote_amount",
        "position_share_pct",
    )
)


def no_trade(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A valid NO_TRADE."""
    return buy(data, **{"action": "NO_TRADE", "no_trade_reason": "NO_EDGE", **NO_ORDER, **changes})


def sell(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A valid SELL of half of a position."""
    order = {**NO_ORDER, "order_type": "MARKET", "position_share_pct": 50, **changes}
    return buy(data, action="SELL", **order)


HELD = HeldPosition(
    quantity=Decimal("0.01"),
    average_price=Decimal("19000"),
    stop_price=None,
    target_price=None,
    opened_at=None,
)


def order(**changes: Any) -> QuantisedOrder:
    """The order that the gate makes of `buy`."""
    fields: dict[str, Any] = {
        "symbol": SYMBOL,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": Decimal("0.00250"),
        "price": Decimal("20000.00"),
        "stop_price": Decimal("19800.00"),
        "target_price": Decimal("20400.00"),
        "reference_price": Decimal("19999.95"),
        "worst_price": Decimal("20000.00"),
        "notional_quote": Decimal("50.0000000"),
        "fee_quote": Decimal("0.0500000000"),
    }
    return QuantisedOrder(**(fields | changes))


@pytest.fixture
def proposed(strategy: Strategy, now: datetime) -> Callable[..., Proposal]:
    """Makes a proposal that waits for the gate."""

    def make(**changes: Any) -> Proposal:
        decision = Decision.objects.create(
            environment=settings.TRADING_ENVIRONMENT,
            strategy=strategy,
            symbol=SYMBOL,
            shadow=bool(changes.get("shadow")),
            candle_open_time=now + timedelta(minutes=Decision.objects.count()),
            prompt_version="v1",
            outcome="OK",
            started_at=now,
            finished_at=now,
        )
        fields = {
            "environment": settings.TRADING_ENVIRONMENT,
            "decision": decision,
            "symbol": SYMBOL,
            "action": "BUY",
            "answer": {},
            "created_at": now,
            "expires_at": now + timedelta(seconds=900),
        }
        return Proposal.objects.create(**(fields | changes))

    return make


def judge(proposal: Proposal, now: datetime, **changes: Any) -> Proposal:
    """What the gate does with `proposal`: by default leave it to a person."""
    arguments: dict[str, Any] = {
        "order": order(),
        "verdict": PASS,
        "limits_version": 3,
        "needs_person": True,
        "approval_ttl_seconds": 300,
        "auto_ttl_seconds": 60,
        "actor": "gate",
        "now": now,
    }
    return services.record_verdict(proposal_id=proposal.pk, **(arguments | changes))


@pytest.fixture
def pending(proposed: Callable[..., Proposal], now: datetime) -> Proposal:
    """A proposal that waits for a person."""
    return judge(proposed(), now)
