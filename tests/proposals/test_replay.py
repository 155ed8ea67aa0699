"""`manage.py replay_decision`: the stored request again, the difference shown, nothing kept that could be ordered."""

import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from market.models import Candle
from proposals import services
from proposals.contracts import ModelApi
from proposals.models import AdvisorBreaker, Decision, Proposal, Strategy
from tests.proposals import conftest
from tests.proposals.conftest import HELD, KEY, SYMBOL, buy, sell
from tests.proposals.model_server import Server, echoes, fails, says
from tradingbot.core.models import AuditRecord

Market = Callable[..., Candle]


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("replay_decision", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def decided(strategy: Strategy, market: Market, model_server: Server, now: datetime) -> Proposal:
    model_server.scripts = [echoes(buy)]
    found = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert found is not None
    return found


def test_difference_is_told_by_field_and_nothing_is_stored(decided: Proposal, model_server: Server) -> None:
    model_server.scripts = [echoes(lambda data: buy(data, quote_amount="70", confidence_pct=55))]
    before = (list(Decision.objects.values()), list(Proposal.objects.values()),
              list(AdvisorBreaker.objects.values()))  # fmt: skip

    told = run(str(decided.decision_id), "--model", "other-model")

    assert "quote_amount: 50 -> 70" in told
    assert "confidence_pct: 60 -> 55" in told
    assert '+ "quote_amount": "70"' in told
    assert "stop_price" not in told.split("---")[0]
    assert before == (list(Decision.objects.values()), list(Proposal.objects.values()),
                      list(AdvisorBreaker.objects.values()))  # fmt: skip
    first, again = (call["body"] for call in model_server.requests)
    assert again == first | {"model": "other-model"}


@pytest.mark.parametrize("api", ModelApi)
def test_schema_is_sent_again_in_its_own_order(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, api: ModelApi
) -> None:
    """jsonb sorts keys: a model that writes in the order of the schema was asked for the action before the facts."""
    Strategy.objects.filter(pk=strategy.pk).update(api=api)
    strategy.refresh_from_db()
    model_server.scripts = [echoes(buy)]
    decided = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert decided is not None

    run(str(decided.pk))

    first, again = (call["body"] for call in model_server.requests)
    assert again == first
    assert list(schema_of(again)["properties"]) == list(schema_of(first)["properties"])


def schema_of(request: dict[str, Any]) -> dict[str, Any]:
    form = request["text"]["format"] if "text" in request else request["response_format"]["json_schema"]
    found: dict[str, Any] = form["schema"]
    return found


def test_same_answer_is_told_as_the_same_and_a_proposals_id_will_do(
    decided: Proposal, model_server: Server
) -> None:
    assert "the proposal is the same" in run(str(decided.pk))
    assert [call["body"]["model"] for call in model_server.requests] == ["rehearsal-1"] * 2


@pytest.mark.parametrize(
    ("script", "code"), [(says("I would buy."), "NOT_JSON"), (fails(500), "HTTP_500"), (says("{}"), "SCHEMA")]
)
def test_answer_of_now_that_is_no_proposal_is_told_with_its_code(
    decided: Proposal, model_server: Server, script: Any, code: str
) -> None:
    model_server.scripts = [script]

    told = run(str(decided.decision_id))

    assert f": {code}\n" in told
    assert "action: BUY -> -" in told


def test_key_is_nowhere_even_when_the_server_echoes_it(decided: Proposal, model_server: Server) -> None:
    model_server.scripts = [fails(401, {"message": f"Incorrect API key provided: {KEY}"})]
    refused = run(str(decided.decision_id))
    model_server.scripts = [says(f"Bearer {KEY}")]
    echoed = run(str(decided.decision_id))

    link = AuditRecord.objects.filter(action="decision.replayed").first()
    assert link is not None
    for text in (refused, echoed, link.body, json.dumps(list(Decision.objects.values()), default=str)):
        assert KEY not in text
        assert "authorization" not in text.lower()


def test_hash_of_request_and_response_go_to_the_audit_log(decided: Proposal, model_server: Server) -> None:
    run(str(decided.decision_id))

    said = json.loads(AuditRecord.objects.get(action="decision.replayed").body)["payload"]
    assert said["request_sha256"] == decided.decision.request_sha256
    assert said["response_sha256"] == Decision.objects.get().response_sha256


def test_sell_is_held_against_the_position_of_then(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = conftest.account
    held = type(account)(account.free_quote, account.free_base, HELD, account.limits_remaining)
    monkeypatch.setattr(conftest, "account", held)
    model_server.scripts = [echoes(sell)]
    decided = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert decided is not None
    # The scoreboard holds a sale against keeping what it sells.
    assert decided.held == {"quantity": "0.01", "stop_price": None, "target_price": None}
    monkeypatch.setattr(conftest, "account", account)

    assert "the proposal is the same" in run(str(decided.pk))


def test_unknown_id_and_a_decision_without_request_are_refused(
    strategy: Strategy, proposed: Callable[..., Proposal], model_server: Server
) -> None:
    with pytest.raises(CommandError, match="no decision and no proposal"):
        run(str(uuid4()))
    with pytest.raises(CommandError, match="before a request was made"):
        run(str(proposed().decision_id))
    assert model_server.requests == []
