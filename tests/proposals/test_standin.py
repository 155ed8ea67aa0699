"""The advisor against the model stand-in as its own process, on a real snapshot of stored candles."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import settings

from market.contracts import WINDOW_CANDLES
from market.models import Candle, FeedState, Instrument, Quote
from proposals import services
from proposals.contracts import ModelApi
from proposals.models import Proposal, Strategy
from tests.proposals.conftest import SYMBOL

RAW = {
    "symbol": SYMBOL,
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "orderTypes": ["LIMIT", "MARKET"],
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01", "minPrice": "0.01", "maxPrice": "1000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001", "minQty": "0.00001", "maxQty": "9000"},
        {"filterType": "MIN_NOTIONAL", "minNotional": "5", "applyToMarket": True, "avgPriceMins": 5},
    ],
}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    """The base address of a running `python -m simulator model`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "model", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("model ready "), line
    yield line.split()[-1]
    process.terminate()
    process.wait(60)


@pytest.fixture
def rising_market(
    stand_in: str,
    strategy: Strategy,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    redis_server: redis.Redis,
) -> None:
    """A window of rising candles, a quote, filters and healthy feeds, as the streams would have written them."""
    monkeypatch.setattr(settings, "OPENAI_BASE_URL", f"{stand_in}/v1")
    monkeypatch.setattr(settings, "ADVISOR_ACCOUNT", "tests.proposals.conftest.account_of")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    environment = settings.TRADING_ENVIRONMENT
    begin = datetime(2023, 3, 10, 9, 0, tzinfo=now.tzinfo)
    Candle.objects.bulk_create(
        Candle(
            environment=environment,
            symbol=SYMBOL,
            interval="1m",
            open_time=begin + timedelta(minutes=minute),
            close_time=begin + timedelta(minutes=minute, seconds=59, milliseconds=999),
            open=price,
            high=price + 9,
            low=price - 7,
            close=price + 3,
            volume=Decimal("2.5"),
            quote_volume=Decimal("50000"),
            trade_count=40,
            received_at=now,
        )
        for minute, price in ((step, Decimal(20000 + 3 * step)) for step in range(150 - WINDOW_CANDLES, 150))
    )
    Instrument.objects.create(
        environment=environment,
        symbol=SYMBOL,
        base_asset="BTC",
        quote_asset="USDT",
        status="TRADING",
        raw=RAW,
        refreshed_at=now,
    )
    Quote.objects.create(
        environment=environment,
        symbol=SYMBOL,
        bid=Decimal("20449.99"),
        ask=Decimal("20450.01"),
        bid_quantity=1,
        ask_quantity=1,
        received_at=now,
    )
    for stream in ("market", "account"):
        FeedState.objects.create(
            environment=environment,
            stream=stream,
            connected=True,
            last_message_at=now,
            resynced_at=now,
            updated_at=now,
        )


def arm(stand_in: str, **fault: Any) -> None:
    """Make the stand-in's next answers bad."""
    request = urllib.request.Request(f"{stand_in}/sim/faults", data=json.dumps(fault).encode(), method="POST")
    urllib.request.urlopen(request, timeout=5).read()


def advise(strategy: Strategy, now: datetime) -> Proposal:
    proposal = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert proposal is not None
    return Proposal.objects.get(pk=proposal.pk)


@pytest.fixture(params=ModelApi)
def strategy(strategy: Strategy, request: pytest.FixtureRequest) -> Strategy:
    """The strategy over either interface of the model."""
    strategy.api = request.param
    strategy.save()
    return strategy


@pytest.mark.usefixtures("rising_market")
def test_rising_market_is_a_valid_buy(strategy: Strategy, now: datetime) -> None:
    proposal = advise(strategy, now)

    assert (proposal.status, proposal.action, proposal.decision.outcome) == ("proposed", "BUY", "OK")
    assert proposal.decision.counted_tokens > 1000
    assert {fact["id"] for fact in proposal.answer["facts"]} >= {"ema_9_1m", "rsi_14_1m"}


@pytest.mark.usefixtures("rising_market")
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"kind": "malformed"}, "NOT_JSON"),
        ({"kind": "refusal"}, "REFUSAL"),
        ({"kind": "cut"}, "CUT_OFF"),
        ({"kind": "status", "status": 429, "count": 2}, "HTTP_429"),
        ({"kind": "status", "status": 500, "count": 2}, "HTTP_500"),
        ({"kind": "status", "status": 503, "count": 1}, "OK"),
        ({"kind": "slow", "ms": 5000}, "TIMEOUT"),
    ],
)
def test_fault_of_the_stand_in_ends_in_its_outcome(
    stand_in: str,
    strategy: Strategy,
    now: datetime,
    fault: dict[str, Any],
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if outcome == "TIMEOUT":
        monkeypatch.setattr(settings, "ADVISOR_TIMEOUT_SECONDS", 1)
    arm(stand_in, **fault)

    proposal = advise(strategy, now)

    assert proposal.decision.outcome == outcome
    assert proposal.action == ("BUY" if outcome == "OK" else "NO_TRADE")
