"""The scoreboard's rows on Postgres: which proposals get one, how candles settle them, what the page adds up."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.test import Client

from market.models import Candle
from proposals import selectors, services
from proposals.contracts import Side
from proposals.models import Decision, Proposal, ProposalScore, Strategy
from proposals.selectors import scoreboard
from proposals.services.questions import _recent
from tests.conftest import NOW
from tests.proposals.conftest import SYMBOL, buy, judge, order, take_snapshot
from tests.web import seeding
from tradingbot.core import clock

Make = Callable[..., Proposal]
CLOSED = datetime(2023, 3, 10, 9, 0, tzinfo=UTC)
START = CLOSED + timedelta(minutes=1)
WIDE = {"open": "20000", "high": "20010", "low": "19990", "close": "20000"}


SALE = {"action": "SELL", "order_type": "MARKET", "limit_price": None, "time_in_force": None, "stop_price": None,
        "target_price": None, "quote_amount": None, "position_share_pct": 50}  # fmt: skip
HELD = {"quantity": "0.01", "stop_price": "19500", "target_price": "21000"}


@pytest.fixture(autouse=True)
def fee(settings: Any) -> None:
    settings.SCORE_FEE_RATE = "tests.proposals.test_scoring.fee_rate"


def fee_rate() -> Decimal | None:
    return Decimal("0.001")


def no_fee_rate() -> Decimal | None:
    return None


@pytest.fixture
def idea(proposed: Make, now: datetime) -> Make:
    """A proposal to buy at 20000 (ask 20000.1), stop 19800, target 20400, decided on the candle of 9:00."""

    def make(*, on_demand: bool = False, interval: str = "1m", **changes: Any) -> Proposal:
        snapshot = take_snapshot(symbol=SYMBOL, interval=interval, now=now)
        answer = buy(snapshot.payload, **changes.pop("answer", {}))
        decided = {"confidence_pct": 60, "status": "risk_rejected"} | changes
        row = proposed(answer=answer, **decided)
        # Each of a strategy of its own: one decides once on a candle.
        own = Strategy.objects.create(name=f"strategy {Decision.objects.count()}", enabled=False)
        Decision.objects.filter(pk=row.decision_id).update(
            strategy=own, snapshot=snapshot, candle_open_time=CLOSED, on_demand=on_demand, attempts=1,
            counted_tokens=1100, model_requested="m-1",
        )  # fmt: skip
        return row

    return make


def minute(number: int, received_at: datetime = NOW + timedelta(minutes=1), **prices: str) -> None:
    """The 1m candle `number` minutes after the first that counts; by default it came after the question."""
    at = START + timedelta(minutes=number)
    Candle.objects.create(
        environment=settings.TRADING_ENVIRONMENT, symbol=SYMBOL, interval="1m", open_time=at,
        close_time=at + timedelta(seconds=59, milliseconds=999), volume=Decimal(1), quote_volume=Decimal(1),
        trade_count=1, received_at=received_at, **{name: Decimal(text) for name, text in (WIDE | prices).items()},
    )  # fmt: skip


def score(of: Proposal) -> ProposalScore:
    return ProposalScore.objects.get(pk=of.pk)


def test_refused_proposal_that_would_have_reached_its_target_is_told_so(idea: Make, now: datetime) -> None:
    row = idea()
    minute(0)
    minute(1, high="20400")

    assert services.score_proposals(now=now) == 1

    found = score(row)
    assert (found.score, found.entry_price, found.exit_price) == ("target", 20000, 20400)
    # 2 % less 0.1 % of 20000 and of 20400
    assert (found.net_pct, found.size_quote, found.net_quote) == (
        Decimal("1.798"), Decimal(50), Decimal("0.899"),
    )  # fmt: skip
    assert (found.exit_at, found.settled_at) == (START + timedelta(minutes=1), now)
    assert services.score_proposals(now=now) == 0


def test_size_is_that_of_the_gates_order_where_it_formed_one(idea: Make, now: datetime) -> None:
    row = judge(idea(status="proposed"), now, order=order(notional_quote=Decimal(20)))
    services.score_proposals(now=now)

    assert score(row).size_quote == Decimal(20)


def test_score_goes_on_with_the_candles_as_they_come(idea: Make, now: datetime) -> None:
    row = idea()
    services.score_proposals(now=now)
    assert (score(row).score, score(row).next_minute) == ("waiting", START)
    minute(0)
    services.score_proposals(now=now)
    assert (score(row).score, score(row).next_minute) == ("held", START + timedelta(minutes=1))

    minute(1, low="19800")
    services.score_proposals(now=now)

    assert (score(row).score, score(row).exit_price) == ("stop", 19800)
    assert score(row).net_pct == Decimal("-1.199")


def test_question_of_a_person_counts_from_the_next_minute(idea: Make, now: datetime) -> None:
    row = idea(on_demand=True)
    minute(0, low="19000")
    minute(1)
    services.score_proposals(now=now)

    assert (score(row).score, score(row).start) == ("held", START + timedelta(minutes=1))


@pytest.mark.parametrize("on_demand", [True, False])
def test_minutes_from_before_the_question_do_not_count_for_a_longer_interval(
    idea: Make, now: datetime, on_demand: bool
) -> None:
    """The candle of the hour closed at 10:00, the model was asked within the minute of 10:40."""
    minute(59, received_at=now - timedelta(minutes=40), low="19000")
    minute(98, received_at=now, low="19000")
    row = idea(interval="1h", on_demand=on_demand)

    services.score_proposals(now=now)

    assert (score(row).score, score(row).start) == ("waiting", START + timedelta(minutes=100))


def test_missing_minute_waits_an_hour_and_is_unknown_then(idea: Make, now: datetime) -> None:
    row = idea()
    minute(0)
    minute(2, high="20400")
    minute(60)
    assert services.score_proposals(now=now) == 0
    minute(61)

    assert services.score_proposals(now=now) == 1

    assert (score(row).score, score(row).net_pct) == ("unknown", None)
    assert score(row).detail == "the candle of 2023-03-10 09:02 is missing"


def test_hole_that_was_filled_in_time_is_no_hole(idea: Make, now: datetime) -> None:
    row = idea()
    minute(0)
    minute(2, high="20400")
    services.score_proposals(now=now)
    minute(1)
    services.score_proposals(now=now)

    assert score(row).score == "target"


@pytest.mark.parametrize("status", ["proposed", "validated"])
def test_proposal_that_the_gate_has_not_judged_has_no_row_yet(idea: Make, now: datetime, status: str) -> None:
    idea(status=status)
    services.score_proposals(now=now)

    assert not ProposalScore.objects.exists()


def test_no_trades_and_sells_of_unknown_holdings_have_no_row(idea: Make, now: datetime) -> None:
    idea(action="SELL", answer=SALE, held=None)  # stored before a position was kept with them
    idea(action="NO_TRADE", status="no_trade")
    services.score_proposals(now=now)

    assert not ProposalScore.objects.exists()


def test_refused_sale_is_told_what_it_would_have_saved(idea: Make, now: datetime) -> None:
    row = idea(action="SELL", answer=SALE, held=HELD)
    minute(0)
    minute(1, low="19500")

    assert services.score_proposals(now=now) == 1

    found = score(row)
    bid = Decimal("19999.9")
    assert (found.side, found.score, found.entry_price, found.exit_price) == ("SELL", "stop", bid, 19500)
    # 499.9 a BTC less 0.1 % of it, of 19999.9; and half of 0.01 BTC
    assert (found.net_pct, found.size_quote) == (Decimal("2.49701298"), Decimal("99.9995"))
    assert found.net_quote == Decimal("2.49700049")


def test_sale_before_the_positions_target_cost_what_was_missed(idea: Make, now: datetime) -> None:
    row = idea(action="SELL", answer=SALE, held=HELD)
    minute(0, high="21000")
    services.score_proposals(now=now)

    assert (score(row).score, score(row).exit_price, score(row).net_pct) == (
        "target",
        21000,
        Decimal("-4.99552448"),
    )


def test_without_a_known_fee_nothing_is_begun(idea: Make, now: datetime, settings: Any) -> None:
    settings.SCORE_FEE_RATE = "tests.proposals.test_scoring.no_fee_rate"
    idea()
    services.score_proposals(now=now)

    assert not ProposalScore.objects.exists()


@pytest.mark.parametrize("changes", [{"settled_at": None}, {"net_pct": None}, {"score": "held"}])
def test_database_refuses_a_settled_score_without_its_result(
    idea: Make, now: datetime, changes: dict[str, object]
) -> None:
    row = idea()
    minute(0, low="19000")
    services.score_proposals(now=now)

    with pytest.raises(IntegrityError), transaction.atomic():
        ProposalScore.objects.filter(pk=row.pk).update(**changes)


# --- the board -------------------------------------------------------------------------------------------
@pytest.fixture
def board(idea: Make, now: datetime) -> dict[str, Proposal]:
    """A target in shadow, a stop that a person approved, one that a person rejected and reached its target."""
    rows = {
        "shadow": idea(shadow=True, status="shadow", confidence_pct=90),
        "approved": judge(idea(status="proposed", confidence_pct=65), now),
        "rejected": judge(idea(status="proposed", confidence_pct=64, answer={"stop_price": "19000"}), now),
        "waiting": idea(answer={"limit_price": "15000", "stop_price": "14000", "valid_for_seconds": 900}),
    }
    approved, rejected = rows["approved"], rows["rejected"]
    services.approve_proposal(
        proposal_id=approved.pk, version=approved.version, digest=approved.digest, actor="ana", now=now
    )
    services.reject_proposal(
        proposal_id=rejected.pk,
        version=rejected.version,
        digest=rejected.digest,
        actor="bob",
        reason="no",
        now=now,
    )
    Proposal.objects.filter(pk=approved.pk).update(claimed_at=now)
    Decision.objects.filter(shadow=True).update(model_requested="m-2")
    ProposalScore.objects.all().delete()
    services.score_proposals(now=now)
    ProposalScore.objects.filter(pk=rows["shadow"].pk).update(stop_price=Decimal(19000))
    minute(0)
    minute(1, low="19700")
    minute(2, high="20500")
    services.score_proposals(now=now)
    return rows


def test_board_adds_up_by_fate_model_and_person(board: dict[str, Proposal], now: datetime) -> None:
    rows = scoreboard.scores(None)

    fates = {line.key[0]: (line.targets, line.stops, line.going_on) for line in scoreboard.lines(
        rows, scoreboard.FATE)}  # fmt: skip
    assert fates == {
        "shadow": (1, 0, 0), "ordered": (0, 1, 0), "rejected": (1, 0, 0), "refused": (0, 0, 1),
    }  # fmt: skip
    models = {line.key: line.proposals for line in scoreboard.lines(rows, scoreboard.MODEL)}
    assert models == {("m-1", "v1", False): 3, ("m-2", "v1", True): 1}
    people = [(deed, line.key[0], line.targets, line.stops) for deed, line in scoreboard.by_person(rows)]
    assert people == [("approved", "ana", 0, 1), ("rejected", "bob", 1, 0)]


def test_board_sets_confidence_beside_what_came_true(board: dict[str, Proposal]) -> None:
    bins = scoreboard.calibration(scoreboard.scores(None))

    assert [(b.low, b.ended, b.hits, b.stated_pct, b.hit_pct) for b in bins] == [
        (60, 2, 1, Decimal("64.5"), Decimal(50)), (90, 1, 1, Decimal(90), Decimal(100)),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["stop_price", "target_price"])
def test_board_holds_no_confidence_against_what_could_end_in_one_way_only(
    board: dict[str, Proposal], end: str
) -> None:
    """A purchase without a target was a miss whenever it was counted."""
    ProposalScore.objects.filter(proposal=board["approved"]).update(**{end: None})

    low, _ = scoreboard.calibration(scoreboard.scores(None))

    assert (low.low, low.ended, low.stated_pct, low.hit_pct) == (60, 1, Decimal(64), Decimal(100))


def test_board_tells_calls_whose_cost_is_not_known(board: dict[str, Proposal], client: Client) -> None:
    """Of three calls of which one had a price, the cost of that one stood there as that of all."""
    Decision.objects.filter(pk=board["approved"].decision_id).update(cost_usd=Decimal("0.0033"))
    Decision.objects.filter(shadow=True).update(cost_usd=Decimal(1))
    client.force_login(seeding.operator())

    spent = scoreboard.spent(None)
    page = client.get("/scoreboard/?period=all").content.decode()

    assert (spent["m-1", "v1", False].cost_usd, spent["m-1", "v1", False].calls_unpriced) == (
        Decimal("0.0033"),
        2,
    )
    assert spent["m-2", "v1", True].calls_unpriced == 0
    assert page.count("without a price") == 1
    assert "and 2 calls without a price" in page


def test_board_counts_calls_and_tokens_of_each_model(board: dict[str, Proposal]) -> None:
    spent = scoreboard.spent(None)

    assert (spent["m-1", "v1", False].calls, spent["m-1", "v1", False].tokens) == (3, 3300)


def test_board_keeps_sales_apart_and_counts_the_stop_as_their_hit(
    board: dict[str, Proposal], idea: Make, client: Client, now: datetime
) -> None:
    idea(action="SELL", answer=SALE, held=HELD, confidence_pct=80, created_at=clock.now())
    services.score_proposals(now=now)
    ProposalScore.objects.filter(side="SELL").update(next_minute=START + timedelta(minutes=3))
    minute(3, low="19000")
    services.score_proposals(now=now)
    client.force_login(seeding.operator())

    (sold,) = scoreboard.lines(scoreboard.scores(None, Side.SELL), scoreboard.SYMBOL)
    (confident,) = scoreboard.calibration(scoreboard.scores(None, Side.SELL))
    page = client.get("/scoreboard/?period=24h").content.decode()

    assert (sold.stops, sold.hits, sold.hit_pct) == (1, 1, Decimal(100))
    assert (confident.low, confident.hits) == (80, 1)
    assert (
        sum(line.proposals for line in scoreboard.lines(scoreboard.scores(None, Side.BUY), scoreboard.SYMBOL))
        == 4
    )
    assert "What proposals to sell would have saved" in page
    assert 'id="sell-fate-refused"' in page


def test_board_of_a_period_leaves_out_what_is_older(board: dict[str, Proposal], now: datetime) -> None:
    assert scoreboard.lines(scoreboard.scores(now + timedelta(seconds=1)), scoreboard.FATE) == []


def test_page_and_file_tell_the_same(board: dict[str, Proposal], client: Client) -> None:
    Proposal.objects.update(created_at=clock.now())
    client.force_login(seeding.operator())

    page = client.get("/scoreboard/?period=all").content.decode()
    answer = client.get("/scoreboard/file.csv?period=all")

    assert "Rejected by bob" in page
    assert "Approved by ana" in page
    found = {row["proposal"]: row for row in csv.DictReader(io.StringIO(answer.content.decode()))}
    assert len(found) == 4
    ordered = found[str(board["approved"].pk)]
    assert ordered["side"] == "BUY"
    assert (ordered["fate"], ordered["score"], ordered["decided by"], ordered["net pct"]) == (
        "ordered", "stop", "ana", "-1.199",
    )  # fmt: skip
    assert answer.headers["Content-Type"].startswith("text/csv")


@pytest.mark.parametrize("path", ["/scoreboard/?period=1y", "/scoreboard/file.csv?period=1y"])
@pytest.mark.django_db
def test_unknown_period_is_not_found(client: Client, path: str) -> None:
    client.force_login(seeding.operator())

    assert client.get(path).status_code == 404


def test_advisor_is_told_what_its_last_proposals_brought(board: dict[str, Proposal], now: datetime) -> None:
    strategy = board["approved"].decision.strategy

    told = {row.pk: _recent(row)["net_pct"] for row in selectors.recent_proposals(strategy, SYMBOL, 5)}

    assert told[board["approved"].pk] == "-1.199"
    assert told[board["waiting"].pk] is None
    assert board["shadow"].pk not in told
