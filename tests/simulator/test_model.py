"""The model stand-in: its fixed rule, the OpenAI wire protocol as the openai SDK sees it, and its faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
import requests

from simulator.model import make_model_app
from simulator.model.rule import decide
from tests.simulator.conftest import Served

KEYS = [
    "schema_version", "snapshot_id", "symbol", "facts", "reasons", "action", "no_trade_reason", "order_type",
    "time_in_force", "limit_price", "stop_price", "target_price", "quote_amount", "position_share_pct",
    "confidence_pct", "valid_for_seconds",
]  # fmt: skip


def snapshot(minute: int = 3, position: dict[str, Any] | None = None, **facts: str) -> dict[str, Any]:
    values = {
        "close_1m": "20000", "ema_9_1m": "20010", "ema_21_1m": "20000", "rsi_14_1m": "55", "atr_14_1m": "10",
    } | facts  # fmt: skip
    return {
        "snapshot_id": "5b0f",
        "as_of": f"2023-03-01T00:{minute:02d}:00Z",
        "symbol": "BTCUSDT",
        "interval": "1m",
        "quote": {"bid": "19999.99", "ask": "20000.00", "spread_bps": "0.1"},
        "filters": {"tick_size": "0.01", "step_size": "0.00001", "min_notional": "5"},
        "facts": [{"id": name, "value": value} for name, value in values.items()],
        "candles": [],
        "account": {"free_quote": "9800.00", "free_base": "0.01"},
        "position": position,
    }


HELD = {"quantity": "0.01", "average_price": "19900", "stop_price": "19000", "target_price": "21000"}


@pytest.fixture(scope="module")
def model() -> Iterator[Served]:
    server = Served(make_model_app())
    yield server
    server.close()


@pytest.fixture
def client(model: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{model.url}/v1", api_key="sim", max_retries=0)


def ask(client: openai.OpenAI, content: Any) -> Any:
    return client.chat.completions.create(
        model="rehearsal",
        messages=[{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": content}],
    )


def prompt(**changes: Any) -> str:
    return f"Here is the market {{in braces}}:\n{json.dumps(snapshot(**changes))}\nDecide."


@pytest.mark.parametrize(
    ("minute", "amount", "order_type"),
    [
        (0, "5000", "LIMIT"), (20, "5000", "LIMIT"), (3, "120", "MARKET"), (6, "120", "LIMIT"),
        (1, "25", "MARKET"), (4, "25", "LIMIT"), (2, "60", "LIMIT"), (5, "60", "MARKET"),
    ],
)  # fmt: skip
def test_amount_and_type_of_a_buy_follow_the_minute(minute: int, amount: str, order_type: str) -> None:
    answer = decide(snapshot(minute))

    assert (answer["action"], answer["quote_amount"], answer["order_type"]) == ("BUY", amount, order_type)


def test_answer_has_every_key_in_the_order_of_the_schema() -> None:
    for given in (snapshot(), snapshot(position=HELD), {}, snapshot(rsi_14_1m="x")):
        assert list(decide(given)) == KEYS


def test_limit_buy_is_capped_above_the_ask_and_protected_on_tick() -> None:
    answer = decide(snapshot(2))

    assert (answer["limit_price"], answer["time_in_force"]) == ("20010.00", "IOC")
    # 3 ATR is 30, less than 2 % of the close: 400 counts.
    assert (answer["stop_price"], answer["target_price"]) == ("19600.00", "20800.00")
    assert answer["position_share_pct"] is None


def test_wide_atr_sets_the_protection() -> None:
    answer = decide(snapshot(2, atr_14_1m="200.123"))

    assert Decimal(answer["stop_price"]) == Decimal("19399.63")
    assert Decimal(answer["target_price"]) == Decimal("21200.73")


def test_falling_average_without_a_position_is_no_trade_unless_oversold() -> None:
    falling = decide(snapshot(ema_9_1m="19990"))
    oversold = decide(snapshot(ema_9_1m="19990", rsi_14_1m="39.9"))

    assert (falling["action"], falling["no_trade_reason"]) == ("NO_TRADE", "NO_EDGE")
    assert oversold["action"] == "BUY"


@pytest.mark.parametrize(
    "facts",
    [{"ema_9_1m": "19990"}, {"rsi_14_1m": "70.1"}, {"close_1m": "18999"}, {"close_1m": "21000"}],
)
def test_position_is_sold_whole_at_market_when_the_case_is_over(facts: dict[str, str]) -> None:
    answer = decide(snapshot(position=HELD, **facts))

    assert (answer["action"], answer["order_type"], answer["position_share_pct"]) == ("SELL", "MARKET", 100)
    assert answer["quote_amount"] is None and answer["stop_price"] is None


@pytest.mark.parametrize(("minute", "action"), [(5, "BUY"), (10, "BUY"), (6, "NO_TRADE"), (9, "NO_TRADE")])
def test_held_position_is_added_to_in_every_fifth_minute(minute: int, action: str) -> None:
    answer = decide(snapshot(minute, position=HELD))

    assert answer["action"] == action
    assert answer["quote_amount"] == ("25" if action == "BUY" else None)


@pytest.mark.parametrize("name", ["close_1m", "ema_9_1m", "ema_21_1m", "rsi_14_1m", "atr_14_1m"])
@pytest.mark.parametrize("value", [None, "NaN", "n/a", ""])
def test_missing_or_unusable_number_is_stale_data(name: str, value: str | None) -> None:
    given = snapshot()
    given["facts"] = [fact for fact in given["facts"] if fact["id"] != name]
    if value is not None:
        given["facts"].append({"id": name, "value": value})

    answer = decide(given)

    assert (answer["action"], answer["no_trade_reason"]) == ("NO_TRADE", "STALE_DATA")
    assert 2 <= len(answer["facts"]) <= 4


def test_facts_are_copied_as_they_came() -> None:
    assert decide(snapshot(atr_14_1m="12.30"))["facts"] == [
        {"id": "ema_9_1m", "value": "20010"},
        {"id": "ema_21_1m", "value": "20000"},
        {"id": "rsi_14_1m", "value": "55"},
        {"id": "atr_14_1m", "value": "12.30"},
    ]


@pytest.mark.parametrize(("gap", "confidence"), [("20000", 50), ("20005", 70), ("20100", 90)])
def test_confidence_grows_with_the_gap_between_50_and_90(gap: str, confidence: int) -> None:
    assert decide(snapshot(ema_9_1m=gap))["confidence_pct"] == confidence


def test_sdk_gets_a_decision_with_usage_and_request_id(client: openai.OpenAI) -> None:
    completion = ask(client, prompt(minute=3))

    answer = json.loads(completion.choices[0].message.content)
    assert (answer["action"], answer["snapshot_id"]) == ("BUY", "5b0f")
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.model, completion.id[:9]) == ("rehearsal", "chatcmpl-")
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert completion._request_id.startswith("req_")


def test_content_in_parts_is_understood(client: openai.OpenAI) -> None:
    completion = ask(client, [{"type": "text", "text": prompt(minute=3)}])

    assert json.loads(completion.choices[0].message.content)["action"] == "BUY"


def test_path_without_version_answers_as_well(model: Served) -> None:
    client = openai.OpenAI(base_url=model.url, api_key="sim", max_retries=0)

    assert json.loads(ask(client, prompt()).choices[0].message.content)["action"] == "BUY"
    assert [entry.id for entry in client.models.list()] == ["rehearsal"]


def test_prompt_without_a_snapshot_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "What do you think of {bitcoin}?")

    assert caught.value.type == "invalid_request_error"


def test_request_without_a_key_is_refused(model: Served) -> None:
    response = requests.post(f"{model.url}/v1/chat/completions", json={}, timeout=30)

    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def arm(model: Served, **fault: Any) -> requests.Response:
    return requests.post(f"{model.url}/sim/faults", json=fault, timeout=30)


def test_malformed_refusal_and_cut_come_in_place_of_one_answer(model: Served, client: openai.OpenAI) -> None:
    arm(model, kind="malformed")
    malformed = ask(client, prompt()).choices[0]
    arm(model, kind="refusal")
    refusal = ask(client, prompt()).choices[0]
    arm(model, kind="cut")
    cut = ask(client, prompt()).choices[0]

    assert not malformed.message.content.startswith("{")
    assert refusal.message.content is None and refusal.message.refusal
    assert cut.finish_reason == "length" and cut.message.content.startswith("{")
    assert json.loads(ask(client, prompt()).choices[0].message.content)["action"] == "BUY"


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
def test_status_fault_is_what_the_sdk_calls_it(
    model: Served, client: openai.OpenAI, status: int, error: type[Exception]
) -> None:
    arm(model, kind="status", status=status)

    with pytest.raises(error):
        ask(client, prompt())


def test_slow_answer_runs_into_the_clients_time_out(model: Served, client: openai.OpenAI) -> None:
    arm(model, kind="slow", ms=2_000)

    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), prompt())

    listed = requests.get(f"{model.url}/sim/faults", timeout=30).json()["faults"]
    assert listed[-1]["fired_at_ms"] and listed[-1]["count"] == 0


@pytest.mark.parametrize(
    "fault", [{"kind": "odd"}, {"kind": "slow", "ms": -1}, {"kind": "status", "status": 200}, {}]
)
def test_bad_fault_is_refused(model: Served, fault: dict[str, Any]) -> None:
    assert arm(model, **fault).status_code == 400


def test_request_that_was_given_up_takes_no_fault_of_the_next_one(
    model: Served, client: openai.OpenAI
) -> None:
    arm(model, kind="slow", ms=700)
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.2), prompt())
    arm(model, kind="malformed")
    arm(model, kind="slow", ms=1500)  # longer than what is left of the one before

    assert not ask(client, prompt()).choices[0].message.content.startswith("{")


def respond(client: openai.OpenAI) -> Any:
    return client.responses.create(
        model="rehearsal",
        input=[{"role": "system", "content": "s"}, {"role": "user", "content": prompt(minute=3)}],
    )


def test_sdk_gets_a_response_with_usage(client: openai.OpenAI) -> None:
    found = respond(client)

    assert json.loads(found.output_text)["action"] == "BUY"
    assert (found.status, found.error, found.id[:5]) == ("completed", None, "resp_")
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens


def test_faults_come_over_responses_as_well(model: Served, client: openai.OpenAI) -> None:
    arm(model, kind="malformed")
    malformed = respond(client)
    arm(model, kind="refusal")
    refusal = respond(client)
    arm(model, kind="cut")
    cut = respond(client)

    assert not malformed.output_text.startswith("{")
    assert refusal.output[0].content[0].type == "refusal"
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.output_text.startswith("{")
