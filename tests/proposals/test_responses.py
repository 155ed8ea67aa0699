"""The Responses interface: asked through the SDK, read as strictly as Chat Completions."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.conf import settings

from market.models import Candle
from proposals import rules, services
from proposals.contracts import AdvisorUnavailable, Answer, MalformedAnswer, ModelApi
from proposals.models import Proposal, Strategy
from tests.proposals.conftest import KEY, SYMBOL, buy, no_trade
from tests.proposals.model_server import Handler, Server, echoes, fails, hangs, response, says

Market = Callable[..., Candle]
REQUEST = {"input": []}


@pytest.fixture
def strategy(strategy: Strategy) -> Strategy:
    """Asks over Responses."""
    strategy.api = ModelApi.RESPONSES
    strategy.save()
    return strategy


def advise(strategy: Strategy, now: datetime) -> Proposal:
    found = services.advise(strategy=strategy, symbol=SYMBOL, now=now)
    assert found is not None
    return found


def read(body: Any, *, truncated: bool = False) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return rules.text_of(rules.read_answer(REQUEST, Answer(text, truncated, "", 1)))


def test_buy_comes_over_responses_with_its_evidence(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [echoes(buy)]

    proposal = advise(strategy, now)

    (call,) = model_server.requests
    assert (proposal.status, proposal.action, call["path"]) == ("proposed", "BUY", "/v1/responses")
    assert call["body"] == proposal.decision.request
    assert call["body"]["text"]["format"] == {
        "type": "json_schema", "name": "trade_proposal", "strict": True, "schema": rules.answer_schema(),
    }  # fmt: skip
    assert (call["body"]["model"], call["body"]["store"]) == (settings.ADVISOR_MODEL, False)
    assert [message["role"] for message in call["body"]["input"]] == ["system", "user"]
    decision = proposal.decision
    assert (decision.prompt_tokens, decision.completion_tokens, decision.model_answered) == (
        1200,
        90,
        "stand-in-7",
    )
    assert (decision.request_id, json.loads(decision.response_text)["id"]) == ("req-42", "resp_1")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (says("I would buy."), "NOT_JSON"),
        (says("{}"), "SCHEMA"),
        (says(None, refusal="I cannot give financial advice."), "REFUSAL"),
        (says('{"schema_', status="incomplete", reason="max_output_tokens"), "CUT_OFF"),
        (says("", status="incomplete", reason="content_filter"), "FILTERED"),
        (says("{}", status="failed"), "UNFINISHED"),
        (fails(401, {"message": f"Incorrect API key provided: {KEY}"}), "AUTH"),
        (fails(404), "NOT_FOUND"),
        (lambda handler: handler.send(200, b"<html>"), "NOT_A_COMPLETION"),
    ],
)
def test_unusable_answer_is_no_trade_with_its_code(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, script: Any, code: str
) -> None:
    model_server.scripts = [script]

    proposal = advise(strategy, now)

    assert (proposal.action, proposal.decision.outcome, len(model_server.requests)) == ("NO_TRADE", code, 1)
    assert KEY not in proposal.refusal


def test_slow_server_is_a_time_out(
    strategy: Strategy, market: Market, model_server: Server, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ADVISOR_TIMEOUT_SECONDS", 1)
    model_server.scripts = [hangs]

    assert advise(strategy, now).decision.outcome == "TIMEOUT"


def test_transient_failure_is_asked_once_more(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    model_server.scripts = [fails(429), echoes(no_trade)]

    decision = advise(strategy, now).decision

    assert (decision.outcome, decision.attempts) == ("OK", 2)


# --- the envelope ----------------------------------------------------------------------------------------
def test_thoughts_before_the_message_are_passed_over() -> None:
    assert read(response("{}")) == "{}"


def outputs(*items: Any) -> dict[str, Any]:
    return response("{}") | {"output": list(items)}


TEXT = {"type": "output_text", "text": "{}"}
MESSAGE = {"type": "message", "role": "assistant", "content": [TEXT]}
STRANGE: list[tuple[str, Any]] = [
    ("nothing", ""),
    ("a number", "7"),
    ("a list", "[]"),
    ("no output", {"status": "completed"}),
    ("output of the wrong type", response("{}") | {"output": "text"}),
    ("empty output", outputs()),
    ("two messages", outputs(MESSAGE, MESSAGE)),
    ("a tool's call", outputs(MESSAGE, {"type": "function_call", "name": "buy", "arguments": "{}"})),
    ("an output that is no object", outputs("x", MESSAGE)),
    ("an output of no kind", outputs(MESSAGE, {"type": ["message"]})),
    ("an output whose kind is an object", outputs({"type": {}}, MESSAGE)),
    ("two parts", outputs(MESSAGE | {"content": [TEXT, TEXT]})),
    ("no part", outputs(MESSAGE | {"content": []})),
    ("content as a text", outputs(MESSAGE | {"content": "{}"})),
    ("part of another kind", outputs(MESSAGE | {"content": [{"type": "input_text", "text": "{}"}]})),
    ("message cut, body completed", outputs(MESSAGE | {"status": "incomplete"})),
    ("deep", "[" * 100_000),
]


@pytest.mark.parametrize("body", [body for _, body in STRANGE], ids=[name for name, _ in STRANGE])
def test_strange_envelope_is_no_completion(body: Any) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        read(body)

    assert caught.value.code == "NOT_A_COMPLETION"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": "in_progress"}, "UNFINISHED"),
        ({"status": None}, "UNFINISHED"),
        ({"status": "completed", "error": {"message": "no"}}, "UNFINISHED"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []},
            "CUT_OFF",
        ),
        ({"status": "incomplete", "incomplete_details": ["x"]}, "UNFINISHED"),
    ],
)
def test_answer_that_is_not_whole_is_not_read(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MalformedAnswer) as caught:
        read(response("{}") | changes)

    assert caught.value.code == code


def test_refusal_without_a_word_is_a_refusal() -> None:
    with pytest.raises(AdvisorUnavailable, match="REFUSAL"):
        read(outputs(MESSAGE | {"content": [{"type": "refusal", "refusal": None}]}))


def test_body_longer_than_the_limit_is_not_read() -> None:
    with pytest.raises(MalformedAnswer, match="TOO_LONG"):
        read(response("{}"), truncated=True)


def test_odd_usage_is_unknown() -> None:
    body = response("{}") | {"usage": {"input_tokens": True, "output_tokens": -1}, "model": ["x"]}

    found = rules.read_answer(REQUEST, Answer(json.dumps(body), False, "", 1))

    assert (found.prompt_tokens, found.completion_tokens, found.model_answered) == (None, None, "")


def test_answer_of_the_other_interface_is_not_read(
    strategy: Strategy, market: Market, model_server: Server, now: datetime
) -> None:
    def chat(handler: Handler) -> None:
        handler.send(200, json.dumps({"choices": [{"message": {"content": "{}"}}]}).encode())

    model_server.scripts = [chat]

    assert advise(strategy, now).decision.outcome == "NOT_A_COMPLETION"
