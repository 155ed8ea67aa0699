"""Budgets of strategies: spent means NO_TRADE with its reason, an unknown price too, and the page says so."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from market.models import Candle
from proposals import services
from proposals.models import Decision, ModelPrice, Proposal, Strategy
from proposals.rules import budgets as rules
from proposals.rules.budgets import TOKENS_OF_AN_UNTOLD_CALL, Budget, Price, Used
from proposals.selectors import budgets, scoreboard
from tests.proposals.conftest import SYMBOL, no_trade
from tests.proposals.model_server import Server, completion, cuts_body, echoes, fails, hangs_up, says
from tests.proposals.races import race
from tests.web import seeding
from tradingbot.core.audit import history
from tradingbot.core.models import Alert

Market = Callable[..., Candle]
USED = 1290  # what tests.proposals.model_server says of each answer
D = Decimal


def advise(strategy: Strategy, now: datetime) -> Proposal:
    found = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert found is not None
    return found


def limit(strategy: Strategy, **changes: Any) -> None:
    Strategy.objects.filter(pk=strategy.pk).update(min_seconds_between=0, **changes)
    strategy.refresh_from_db()


def price(prompt: str = "2", completion: str = "10") -> ModelPrice:
    return ModelPrice.objects.create(
        model="rehearsal-1", prompt_usd_per_million=D(prompt), completion_usd_per_million=D(completion)
    )


# --- the rule --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("used", "code"),
    [
        (Used(9, 999, D("0.99")), None),
        (Used(10, 0, D(0)), "BUDGET_SPENT"),
        (Used(0, 1000, D(0)), "BUDGET_SPENT"),
        (Used(0, 0, D(1)), "BUDGET_SPENT"),
        (Used(0, 0, None), "PRICE_UNKNOWN"),
    ],
)
def test_call_is_allowed_below_every_limit_only(used: Used, code: str | None) -> None:
    found = rules.why_no_call(Budget(10, 1000, D(1)), used, "m")

    assert (found and found[0]) == code


def test_unknown_price_does_not_matter_without_a_budget_in_money() -> None:
    assert rules.why_no_call(Budget(10, None, None), Used(0, 10**9, None), "m") is None


def test_cost_by_hand() -> None:
    assert rules.cost_usd(1200, 90, Price(D(2), D(10))) == D("0.0033")


# --- the running ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decisions_per_hour_max": 1}, "1 of 1 calls of this hour are made"),
        ({"tokens_per_day_max": USED}, f"{USED} of {USED} tokens of this day are used"),
        ({"cost_per_day_max_usd": D("0.0033")}, "0.0033 of 0.0033 USD of this day are spent"),
    ],
)
def test_spent_budget_is_no_trade_with_its_reason_and_no_call(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, changes: Any, words: str
) -> None:
    model_server.scripts = [echoes(no_trade)]
    price()
    limit(strategy, **changes)
    assert advise(strategy, now).decision.outcome == "OK"
    market(1)

    row = advise(strategy, now + timedelta(minutes=1))

    assert (row.status, row.refusal) == ("no_trade", f"BUDGET_SPENT: {words}")
    assert (row.decision.attempts, row.decision.request, len(model_server.requests)) == (0, None, 1)
    alert = Alert.objects.get(kind="advisor_budget")
    assert (alert.severity, alert.resolved_at) == ("high", None)


def test_budget_is_open_again_after_its_time_and_the_alert_closed(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    limit(strategy, decisions_per_hour_max=1, tokens_per_day_max=10 * USED)
    advise(strategy, now)
    market(1)
    advise(strategy, now + timedelta(minutes=1))
    market(2)

    row = advise(strategy, now + timedelta(minutes=61))

    assert row.decision.outcome == "OK"
    assert Alert.objects.get(kind="advisor_budget").resolved_at is not None


def test_alert_of_a_spent_budget_ends_when_its_strategy_is_switched_off(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    """Only its next decision closed it, and a strategy that is off makes none: it was told anew for ever."""
    limit(strategy, decisions_per_hour_max=0)
    advise(strategy, now)
    services.save_strategy(strategy=strategy, actor="boss", now=now)
    assert Alert.objects.get(kind="advisor_budget").resolved_at is None

    strategy.enabled = False
    services.save_strategy(strategy=strategy, actor="boss", now=now)

    assert Alert.objects.get(kind="advisor_budget").resolved_at == now


def test_day_begins_at_midnight_utc(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    limit(strategy, tokens_per_day_max=1)
    advise(strategy, now)
    midnight = now.replace(hour=0) + timedelta(days=1)

    assert budgets.used_by(strategy, midnight - timedelta(seconds=1)).tokens_of_the_day == USED
    assert budgets.used_by(strategy, midnight).tokens_of_the_day == 0


def test_model_without_price_is_not_asked_where_money_is_limited(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    limit(strategy, cost_per_day_max_usd=D(5))

    row = advise(strategy, now)

    assert row.refusal.startswith("PRICE_UNKNOWN: the strategy has a budget in USD")
    assert model_server.requests == []


def test_calls_from_before_the_price_was_known_count_at_its_dearer_half(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    decision = advise(strategy, now).decision
    assert (decision.counted_tokens, decision.cost_usd) == (USED, None)
    price()

    assert budgets.used_by(strategy, now).cost_of_the_day_usd == D("0.0129")


def test_cost_is_stored_by_the_price_of_then(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    price()
    decision = advise(strategy, now).decision
    ModelPrice.objects.update(prompt_usd_per_million=D(99))

    assert decision.cost_usd == D("0.0033")
    assert budgets.used_by(strategy, now).cost_of_the_day_usd == D("0.0033")
    assert scoreboard.spent(None)["rehearsal-1", "v2", False].cost_usd == D("0.0033")


def silent_on_use(handler: Any) -> None:
    body = completion("{}")
    del body["usage"]
    handler.send(200, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("scripts", "counted"),
    [
        ([silent_on_use], TOKENS_OF_AN_UNTOLD_CALL),
        ([fails(500), says("{}")], TOKENS_OF_AN_UNTOLD_CALL + USED),
        ([fails(500), fails(500)], 2 * TOKENS_OF_AN_UNTOLD_CALL),
        ([fails(429), says("{}")], USED),
        ([hangs_up, says("{}")], TOKENS_OF_AN_UNTOLD_CALL + USED),
        ([cuts_body, says("{}")], TOKENS_OF_AN_UNTOLD_CALL + USED),
        ([fails(401)], 0),
    ],
)
def test_use_that_is_not_told_counts_as_the_most_it_can_be(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, scripts: Any, counted: int
) -> None:
    model_server.scripts = scripts

    assert advise(strategy, now).decision.counted_tokens == counted


def test_server_that_nobody_reached_used_nothing(
    strategy: Strategy, market: Market, now: datetime, settings: Any
) -> None:
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"

    decision = advise(strategy, now).decision

    assert (decision.outcome, decision.counted_tokens) == ("CONNECTION", 0)


def test_use_told_beyond_all_reason_is_not_taken_for_a_count(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    def boasts(handler: Any) -> None:
        body = completion("{}")
        body["usage"] = {"prompt_tokens": 2**31 - 1, "completion_tokens": 2**31 - 1}
        handler.send(200, json.dumps(body).encode())

    model_server.scripts = [boasts]

    decision = advise(strategy, now).decision

    assert decision.finished_at is not None
    assert decision.counted_tokens == TOKENS_OF_AN_UNTOLD_CALL


def test_call_under_way_and_one_that_was_interrupted_count_at_their_worst(
    strategy: Strategy, now: datetime
) -> None:
    Decision.objects.create(
        environment="simulator", strategy=strategy, symbol=SYMBOL, candle_open_time=now, prompt_version="v1",
        request_sha256="a" * 64, started_at=now,
    )  # fmt: skip
    used = budgets.used_by(strategy, now)
    assert (used.calls_of_the_hour, used.tokens_of_the_day) == (1, TOKENS_OF_AN_UNTOLD_CALL)

    services.expire_overdue(now=now + timedelta(minutes=10))

    used = budgets.used_by(strategy, now + timedelta(minutes=10))
    assert (used.calls_of_the_hour, used.tokens_of_the_day) == (2, 2 * TOKENS_OF_AN_UNTOLD_CALL)


@pytest.mark.django_db(transaction=True)
def test_of_two_symbols_at_once_the_second_counts_the_first(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(no_trade)]
    market(symbol="ETHUSDT")
    limit(strategy, decisions_per_hour_max=1, symbols=[SYMBOL, "ETHUSDT"])

    race([lambda s=s: services.advise(strategy=strategy, symbol=s, now=now) for s in strategy.symbols])

    assert sorted(Decision.objects.values_list("outcome", flat=True)) == ["BUDGET_SPENT", "OK"]


# --- where people set and see it -------------------------------------------------------------------------
def test_price_is_set_in_the_admin_with_an_audit_record(client: Client, db: None) -> None:
    client.force_login(seeding.person("boss", is_staff=True, is_superuser=True))

    client.post("/admin/proposals/modelprice/add/", {
        "model": "m", "prompt_usd_per_million": "0.15", "completion_usd_per_million": "0.60"})  # fmt: skip

    assert ModelPrice.objects.get().prompt_usd_per_million == D("0.15")
    assert history("model_price:m")[0]["payload"]["after"]["completion_usd_per_million"] == "0.6"


@pytest.mark.django_db
def test_database_refuses_a_negative_price() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        price("-1")


def test_page_shows_the_budget_and_that_it_is_spent(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, client: Client
) -> None:
    limit(strategy, tokens_per_day_max=0)
    client.force_login(seeding.operator())

    page = client.get("/advisor/").content.decode()

    assert "0 of 0 tokens of this day are used" in page
