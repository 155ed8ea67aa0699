"""Trades that are on our books are compared at once, however many there are, and without a lock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from execution.contracts import DivergenceKind, FillReport, Outcome, QueryFailed
from execution.models import Account, Divergence, Fill, ReconciliationRun
from execution.services import comparing
from execution.services.asking import Records
from execution.services.comparing import compare_trades
from execution.services.findings import Finding
from execution.services.turn import Turn
from tests.desk import Desk
from tradingbot.core import clock
from tradingbot.core.models import Lease

pytestmark = pytest.mark.django_db
AT = datetime(2026, 1, 1, tzinfo=UTC)
TRADE = FillReport(
    trade_id=1,
    price=Decimal("100"),
    quantity=Decimal("0.5"),
    quote_quantity=Decimal("50"),
    commission=Decimal("0.0005"),
    commission_asset="BTC",
    is_maker=False,
    at=AT,
)


@pytest.fixture(autouse=True)
def account() -> None:
    Account.objects.get_or_create(environment="simulator")


def booked(count: int, symbol: str = "BTCUSDT") -> Records:
    """The exchange's word for `count` trades that are on our books just so."""
    trades = [replace(TRADE, trade_id=number) for number in range(1, count + 1)]
    Fill.objects.bulk_create(
        Fill(
            environment="simulator",
            symbol=symbol,
            trade_id=trade.trade_id,
            exchange_order_id=7,
            side="BUY",
            price=trade.price,
            quantity=trade.quantity,
            quote_quantity=trade.quote_quantity,
            commission=trade.commission,
            commission_asset=trade.commission_asset,
            commission_quote=Decimal("0.05"),
            is_maker=False,
            at=AT,
            recorded_at=AT,
        )
        for trade in trades
    )
    return Records(trades=[(symbol, 7, trade) for trade in trades])


def compare(records: Records) -> tuple[int, list[Finding]]:
    run = ReconciliationRun.objects.create(environment="simulator", trigger="test", started_at=AT)
    turn = Turn.take("test")
    assert turn is not None
    told = list(compare_trades(run, records, turn, clock.now()))
    return sum(posted for posted, _ in told), [finding for _, found in told for finding in found]


def queries_for(count: int, symbol: str) -> list[str]:
    records = booked(count, symbol)
    with CaptureQueriesContext(connection) as asked:
        assert compare(records) == (0, [])
    return [query["sql"] for query in asked.captured_queries]


def test_booked_trades_cost_as_many_queries_however_many_they_are() -> None:
    few, many = queries_for(2, "BTCUSDT"), queries_for(60, "ETHUSDT")

    assert len(many) == len(few)
    assert not any("FOR UPDATE" in query for query in many)


def test_booked_trade_with_another_fee_is_named() -> None:
    records = booked(3)
    symbol, order_id, trade = records.trades[1]
    records.trades[1] = (symbol, order_id, replace(trade, commission=Decimal("0.0006")))

    posted, findings = compare(records)

    assert posted == 0
    assert [(found.kind, found.subject, found.amount) for found in findings] == [
        (DivergenceKind.FEE, "trade:BTCUSDT:2", Decimal("0.0001"))
    ]


def test_posting_that_loses_its_turn_keeps_what_it_posted_and_has_reported_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "ORDERS_A_TRANSACTION", 1)
    orders = [desk.buy(), desk.buy()]
    missed = [
        (o.symbol, o.exchange_order_id or 0, replace(TRADE, trade_id=900_000 + n))
        for n, o in enumerate(orders)
    ]
    run = ReconciliationRun.objects.create(environment="simulator", trigger="test", started_at=AT)
    turn = Turn.take("slow")
    assert turn is not None
    posting = comparing.compare_trades(run, Records(trades=missed), turn, clock.now())
    assert [posted for posted, _ in (next(posting), next(posting))] == [0, 1]
    Lease.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert Turn.take("another") is not None

    with pytest.raises(QueryFailed, match="another worker"):
        next(posting)

    assert list(Fill.objects.filter(trade_id__gte=900_000).values_list("trade_id", flat=True)) == [900_000]
    assert [d.outcome for d in Divergence.objects.filter(subject__startswith="trade:")] == [Outcome.POSTED]
