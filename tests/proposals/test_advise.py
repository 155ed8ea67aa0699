"""A decision from end to end: rows of market, a real server on the wire, the proposal in Postgres."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from market.contracts import StaleData
from market.models import Candle, Snapshot
from proposals import rules, selectors, services
from proposals.models import AdvisorBreaker, Decision, Proposal, Strategy
from tests.proposals import conftest
from tests.proposals.conftest import HELD, KEY, SYMBOL, buy, no_trade
from tests.proposals.model_server import Server, completion, echoes, fails, hangs, hangs_up, says
from tests.proposals.races import race
from tradingbot.core import audit, clock
from tradingbot.core.models import Alert, AuditRecord

Market = Callable[..., Candle]


def advise(strategy: Strategy, now: datetime) -> Proposal:
    """One decision that must come to a proposal."""
    proposal = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert proposal is not None
    return Proposal.objects.get(pk=proposal.pk)


def test_valid_buy_becomes_a_proposal_for_the_gate(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(buy)]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.action, proposal.confidence_pct) == ("proposed", "BUY", 60)
    assert proposal.reasons == "Momentum is up."
    assert proposal.answer["limit_price"] == "20000"
    assert proposal.held is None
    assert selectors.proposals_to_assess(10) == [proposal.pk]
    assert timedelta(seconds=120) <= proposal.expires_at - now < timedelta(seconds=130)


def test_request_and_response_are_stored_whole_with_hashes(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(buy)]

    decision = advise(strategy, now).decision

    assert decision.request is not None
    assert decision.request["response_format"]["json_schema"] == {
        "name": "trade_proposal",
        "strict": True,
        "schema": rules.answer_schema(),
    }
    assert decision.request == model_server.requests[0]["body"]
    assert decision.request_sha256 == audit.sha256_hex(audit.canonical_json(decision.request))
    assert json.loads(decision.response_text)["id"] == "chatcmpl-1"
    assert decision.response_sha256 == audit.sha256_hex(decision.response_text)
    assert decision.prompt_sha256 == services.load_prompt("v2").sha256
    assert (decision.model_requested, decision.model_answered) == (settings.ADVISOR_MODEL, "stand-in-7")
    assert (decision.prompt_tokens, decision.completion_tokens, decision.request_id) == (1200, 90, "req-42")
    assert (decision.outcome, decision.attempts) == ("OK", 1)
    assert decision.latency_ms is not None
    assert decision.finished_at is not None


def test_user_message_holds_exactly_one_json_object_of_the_desk(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, proposed: Callable[..., Proposal]
) -> None:
    earlier = proposed(created_at=now - timedelta(minutes=5))
    Decision.objects.update(
        started_at=now - timedelta(minutes=5), candle_open_time=now - timedelta(days=9999)
    )
    model_server.scripts = [echoes(buy)]

    proposal = advise(strategy, now)

    text = model_server.requests[0]["body"]["messages"][1]["content"]
    data = json.loads(text[text.index("{") : text.rindex("}") + 1])
    snapshot = Snapshot.objects.get(pk=proposal.decision.snapshot_id)
    assert {name: data[name] for name in snapshot.payload} == snapshot.payload
    assert data["snapshot_id"] == str(snapshot.pk)
    assert data["account"] == {"free_quote": "1000.5", "free_base": "0"}
    assert data["snapshot_sha256"] == snapshot.sha256
    assert (data["position"], data["other_positions"]) == (None, {})
    assert data["limits_remaining"] == {"order_notional_quote": "100"}
    assert data["recent_decisions"] == [
        {
            "at": earlier.created_at.isoformat(),
            "action": "BUY",
            "status": "proposed",
            "own_terms": None,
            "net_pct": None,
        }
    ]


def test_open_positions_are_told_with_what_protects_them(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_at = now - timedelta(seconds=90)
    own = replace(HELD, is_protected=True, opened_at=opened_at, stop_price=Decimal(18500))
    other = replace(HELD, is_protected=False)
    told = replace(conftest.account, position=own, other_positions={"ETHUSDT": other})
    monkeypatch.setattr(conftest, "account", told)
    model_server.scripts = [echoes(buy)]

    advise(strategy, now)

    text = model_server.requests[0]["body"]["messages"][1]["content"]
    data = json.loads(text[text.index("{") : text.rindex("}") + 1])
    numbers = {"quantity": "0.01", "average_price": "19000", "stop_price": "18500", "target_price": None}
    assert data["position"] == {**numbers, "protected_on_exchange": True, "age_seconds": 90}
    unknown = {"stop_price": None, "protected_on_exchange": False, "age_seconds": None}
    assert data["other_positions"] == {"ETHUSDT": {**numbers, **unknown}}


def test_no_trade_by_choice_ends_at_once_with_the_models_reason(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.action, proposal.decision.outcome) == ("no_trade", "NO_TRADE", "OK")
    assert proposal.refusal.startswith("NO_EDGE")
    assert selectors.proposals_to_assess(10) == []


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (says("I would buy."), "NOT_JSON"),
        (says("{}"), "SCHEMA"),
        (says(None), "EMPTY"),
        (says(None, refusal="I cannot give financial advice."), "REFUSAL"),
        (says('{"schema_version": "1", "snap', finish="length"), "CUT_OFF"),
        (says(None, finish="content_filter"), "FILTERED"),
        (
            lambda handler: handler.send(200, b"<html>Welcome</html>", content_type="text/html"),
            "NOT_A_COMPLETION",
        ),
        (lambda handler: handler.send(200, b"\xff\xfe\x00\x00"), "NOT_A_COMPLETION"),
        (says("\ud800\x00 and \u202e more"), "NOT_JSON"),
        (says("x" * 300_000), "TOO_LONG"),
        (fails(401, {"message": f"Incorrect API key provided: {KEY}"}), "AUTH"),
        (fails(400), "BAD_REQUEST"),
        (fails(404), "NOT_FOUND"),
        (fails(429, {"message": "You exceeded", "code": "insufficient_quota"}), "QUOTA"),
    ],
)
def test_unusable_answer_is_no_trade_with_its_code_and_never_asked_again(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, script: Any, code: str
) -> None:
    model_server.scripts = [script]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.action) == ("no_trade", "NO_TRADE")
    assert proposal.decision.outcome == code
    assert proposal.refusal.startswith(f"{code}: ")
    assert proposal.answer["code"] == code
    assert len(model_server.requests) == 1
    assert services.advise(strategy=strategy, symbol=SYMBOL, now=now + timedelta(minutes=5)) is None


@pytest.mark.parametrize("script", [fails(500), fails(503), fails(429), fails(408), hangs_up])
def test_transient_failure_is_asked_once_more(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, script: Any
) -> None:
    model_server.scripts = [script, echoes(buy)]

    proposal = advise(strategy, now)

    assert (proposal.action, proposal.decision.attempts, len(model_server.requests)) == ("BUY", 2, 2)


def test_lasting_failure_is_asked_twice_and_no_more(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [fails(503)]

    proposal = advise(strategy, now)

    assert (proposal.decision.outcome, proposal.decision.attempts) == ("HTTP_503", 2)
    assert len(model_server.requests) == 2


def test_retry_after_beyond_the_deadline_is_not_waited_for(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [fails(429, retry_after="120"), echoes(buy)]

    proposal = advise(strategy, now)

    assert (proposal.decision.outcome, len(model_server.requests)) == ("HTTP_429", 1)


def test_slow_model_is_no_trade_with_time_out(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ADVISOR_TIMEOUT_SECONDS", 1)
    model_server.scripts = [hangs]

    proposal = advise(strategy, now)

    assert (proposal.decision.outcome, proposal.decision.attempts) == ("TIMEOUT", 1)
    assert proposal.decision.request is not None


def test_stale_market_is_no_trade_and_the_model_is_not_asked(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise StaleData("the quote is 42 s old")

    monkeypatch.setattr("market.services.take_snapshot", refuse)

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.decision.outcome) == ("no_trade", "STALE_DATA")
    assert proposal.refusal == "STALE_DATA: the quote is 42 s old"
    assert model_server.requests == []


def test_missing_prompt_version_is_no_trade(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    strategy.prompt_version = "../v1"

    assert advise(strategy, now).decision.outcome == "PROMPT_MISSING"


def test_three_failures_open_the_breaker_and_the_next_decision_is_not_sent(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [fails(400)]
    for minute in range(3):
        market(minute + 1)
        advise(strategy, now + timedelta(seconds=21 * minute))

    market(9)
    proposal = advise(strategy, now + timedelta(seconds=63))

    assert proposal.decision.outcome == "BREAKER_OPEN"
    assert proposal.decision.request is None
    assert len(model_server.requests) == 3
    assert AdvisorBreaker.objects.get().state == "open"
    assert Alert.objects.get(kind="advisor_breaker").resolved_at is None


def test_probe_after_the_cool_down_closes_the_breaker_and_its_alert(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [fails(400), fails(400), fails(400), echoes(buy)]
    for minute in range(3):
        market(minute + 1)
        advise(strategy, now + timedelta(seconds=21 * minute))

    market(9)
    proposal = advise(strategy, now + timedelta(seconds=42 + 31))

    assert proposal.action == "BUY"
    assert AdvisorBreaker.objects.get().state == "closed"
    assert Alert.objects.get(kind="advisor_breaker").resolved_at is not None


def test_key_is_sent_and_is_in_no_row(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    def leak(handler: Any) -> None:
        handler.send(200, json.dumps({"echo": handler.headers["authorization"], "key": KEY}).encode())

    model_server.scripts = [leak]

    proposal = advise(strategy, now)

    assert model_server.requests[0]["headers"]["authorization"] == f"Bearer {KEY}"
    rows = [Decision.objects.values().get(), Proposal.objects.values().get(), *AuditRecord.objects.values()]
    assert KEY not in repr(rows)
    assert "[redacted]" in proposal.decision.response_text


def test_key_in_a_valid_answer_is_in_no_row(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    """The body was kept without it, the proposal read from the body was not."""

    def leak(handler: Any) -> None:
        text = json.loads(handler.raw)["messages"][-1]["content"]
        answer = buy(json.loads(text[text.index("{") :]), reasons=f"Up. {handler.headers['authorization']}")
        handler.send(
            200, json.dumps(completion(json.dumps(answer)) | {"model": KEY}).encode(), x_request_id=KEY
        )

    model_server.scripts = [leak]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.action) == ("proposed", "BUY")
    rows = [Decision.objects.values().get(), Proposal.objects.values().get(), *AuditRecord.objects.values()]
    assert KEY not in repr(rows)


# --- when it is asked ------------------------------------------------------------------------------------
def test_candle_is_decided_on_once(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    advise(strategy, now)

    assert services.advise(strategy=strategy, symbol=SYMBOL, now=now + timedelta(hours=1)) is None
    assert len(model_server.requests) == 1


def test_next_candle_waits_until_the_pause_is_over(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    advise(strategy, now)
    market(1)

    assert selectors.due_decisions(now + timedelta(seconds=19)) == []
    assert selectors.due_decisions(now + timedelta(seconds=20)) == [(strategy, SYMBOL)]


def test_look_for_due_decisions_costs_the_same_for_one_and_for_ten_symbols(
    strategy: Strategy, market: Market, now: datetime
) -> None:
    costs = []
    for symbols in ([SYMBOL], [SYMBOL, *(f"A{number}USDT" for number in range(9))]):
        Strategy.objects.filter(pk=strategy.pk).update(symbols=symbols)
        for symbol in symbols:
            opened = market(symbol=symbol, minutes=len(symbols)).open_time
            Decision.objects.create(
                environment=settings.TRADING_ENVIRONMENT, strategy=strategy, symbol=symbol,
                candle_open_time=opened, prompt_version="v1", started_at=now, finished_at=now,
            )  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            assert selectors.due_decisions(now) == []
        costs.append(len(queries))

    assert costs == [4, 4]


def test_disabled_strategy_and_symbol_without_candles_are_not_due(
    strategy: Strategy, market: Market, now: datetime
) -> None:
    strategy.symbols = ["ETHUSDT"]
    strategy.save()
    assert selectors.due_decisions(now) == []

    strategy.symbols, strategy.enabled = [SYMBOL], False
    strategy.save()
    assert selectors.due_decisions(now) == []


def test_second_strategy_waits_while_a_decision_on_the_symbol_is_under_way(
    strategy: Strategy, market: Market, now: datetime
) -> None:
    unfinished(strategy, now - timedelta(seconds=25))
    second = Strategy.objects.create(name="second", symbols=[SYMBOL])

    assert services.advise(strategy=second, symbol=SYMBOL, now=now) is None


# --- a worker that dies ----------------------------------------------------------------------------------
def unfinished(strategy: Strategy, started_at: datetime) -> Decision:
    """What a killed worker leaves behind."""
    return Decision.objects.create(
        environment=settings.TRADING_ENVIRONMENT,
        strategy=strategy,
        symbol=SYMBOL,
        candle_open_time=datetime(2023, 3, 10, 8, 0, tzinfo=started_at.tzinfo),
        prompt_version="v1",
        started_at=started_at,
    )


def test_interrupted_decision_is_closed_with_no_trade(strategy: Strategy, now: datetime) -> None:
    left_seconds = settings.ADVISOR_TIMEOUT_SECONDS + 30
    decision = unfinished(strategy, now)

    assert services.expire_overdue(now=now + timedelta(seconds=left_seconds - 1)) == 0
    assert services.expire_overdue(now=now + timedelta(seconds=left_seconds)) == 1

    decision.refresh_from_db()
    assert (decision.outcome, decision.proposal.status) == ("INTERRUPTED", "no_trade")
    assert services.expire_overdue(now=now + timedelta(hours=1)) == 0


@pytest.mark.django_db(transaction=True)
def test_answer_after_the_decision_was_closed_is_dropped(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    def close_meanwhile(handler: Any) -> None:
        services.expire_overdue(now=now + timedelta(hours=1))
        connection.close()
        echoes(buy)(handler)

    model_server.scripts = [close_meanwhile]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.decision.outcome) == ("no_trade", "INTERRUPTED")
    assert Proposal.objects.count() == 1
    assert proposal.decision.response_text == ""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [{"enabled": False}, {"shadow": True}, {"symbols": ["ETHUSDT"]}])
def test_answer_to_a_strategy_that_was_switched_off_meanwhile_is_no_trade(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, change: dict[str, Any]
) -> None:
    def switch_off_meanwhile(handler: Any) -> None:
        Strategy.objects.filter(pk=strategy.pk).update(**change)
        connection.close()
        echoes(buy)(handler)

    model_server.scripts = [switch_off_meanwhile]

    proposal = advise(strategy, now)

    assert (proposal.status, proposal.decision.outcome) == ("no_trade", "SWITCHED_OFF")
    assert proposal.decision.prompt_tokens == 1200
    assert json.loads(proposal.decision.response_text)["id"] == "chatcmpl-1"


@pytest.mark.django_db(transaction=True)
def test_workers_racing_for_a_candle_ask_the_model_once(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]

    outcomes = race([lambda: services.advise(strategy=strategy, symbol=SYMBOL, now=now)] * 6)

    assert sum(isinstance(o, Proposal) for o in outcomes) == 1
    assert outcomes.count(None) == 5
    assert len(model_server.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_two_strategies_racing_for_a_symbol_take_turns(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    second = Strategy.objects.create(name="second", symbols=[SYMBOL])
    model_server.scripts = [echoes(no_trade)]

    for minute in range(1, 6):
        market(minute)
        at = now + timedelta(minutes=minute)
        outcomes = race(
            [lambda s=s, t=at: services.advise(strategy=s, symbol=SYMBOL, now=t) for s in (strategy, second)]
        )
        assert outcomes.count(None) == 1


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_model_thinks(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    seen: list[Any] = []

    def look(handler: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT state FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            seen.extend(cursor.fetchall())
        seen.append(Decision.objects.get().request_sha256)
        connection.close()
        echoes(buy)(handler)

    model_server.scripts = [look]

    advise(strategy, now)

    *states, request_sha256 = seen
    assert set(states) == {("idle",)}
    assert len(request_sha256) == 64  # on record before it left


def test_wait_for_the_claim_counts_in_the_time_of_the_proposal(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`created_at` missed the wait for another decision's lock, so the measured way looked shorter."""
    model_server.scripts = [echoes(buy)]
    begun = iter([100.0])
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: next(begun, 107.0))

    proposal = advise(strategy, now)

    assert proposal.created_at - now == timedelta(seconds=7)
