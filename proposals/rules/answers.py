"""Reading the model's answer: either one valid TradeProposal or a refusal with a code. Nothing is repaired.

Codes of MalformedAnswer, in the order of the checks: TOO_LONG, NOT_A_COMPLETION, CUT_OFF, FILTERED,
UNFINISHED, EMPTY, NOT_JSON, DUPLICATE_KEY, NOT_FINITE, SCHEMA, SNAPSHOT_MISMATCH, SYMBOL_MISMATCH,
FACT_REPEATED, FACT_UNKNOWN, FACT_CONTRADICTS, NOT_POSITIVE, FIELDS_CONTRADICT, NO_POSITION, STOP_SIDE,
TARGET_SIDE. A refusal by the model is AdvisorUnavailable with the code REFUSAL.
"""

import json
import unicodedata
from decimal import Decimal
from typing import Any, NoReturn

from pydantic import ValidationError

from proposals.contracts import (
    ANSWER_LENGTH_MAX,
    REASONS_LENGTH_MAX,
    Action,
    AdvisorUnavailable,
    Answer,
    Completion,
    HeldPosition,
    MalformedAnswer,
    ModelApi,
    OrderType,
    TradeProposal,
)
from tradingbot.core.decimals import MalformedDecimal, parse_decimal

DETAIL_LENGTH_MAX = 300
TOKENS_MAX = 10**9  # twice this and what is added for untold calls fit the integer columns
_ORDER_FIELDS = (
    "order_type",
    "time_in_force",
    "limit_price",
    "stop_price",
    "target_price",
    "quote_amount",
    "position_share_pct",
)
_PRICES = ("limit_price", "stop_price", "target_price", "quote_amount")


def clean_text(text: str, length_max: int) -> str:
    """`text` as plain printable text: no control, format (bidi, zero width), surrogate or private characters."""
    kept = (
        " " if character in "\t\r\u2028\u2029" else character
        for character in text[: 4 * length_max]
        if character in "\n\t\r\u2028\u2029" or unicodedata.category(character)[0] != "C"
    )
    return "".join(kept).strip()[:length_max]


# --- the envelope ----------------------------------------------------------------------------------------
def read_completion(answer: Answer) -> Completion:
    """The one choice of a Chat Completions body; raises MalformedAnswer (TOO_LONG, NOT_A_COMPLETION)."""
    if answer.truncated:
        raise MalformedAnswer("TOO_LONG", "the body is longer than any proposal can be")
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(
            "NOT_A_COMPLETION", f"the body is not JSON: {clean_text(answer.body, 80)!r}"
        ) from error
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise MalformedAnswer("NOT_A_COMPLETION", "the body does not hold exactly one choice")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise MalformedAnswer("NOT_A_COMPLETION", "the choice holds no message")
    if message.get("tool_calls") or message.get("function_call"):
        raise MalformedAnswer("NOT_A_COMPLETION", "the message calls a tool that was not offered")
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    return Completion(
        text=string_of(message.get("content")),
        refusal=string_of(message.get("refusal")),
        finish_reason=string_of(choices[0].get("finish_reason")),
        model_answered=clean_text(string_of(body.get("model")), 80),
        prompt_tokens=count_of(usage.get("prompt_tokens")),
        completion_tokens=count_of(usage.get("completion_tokens")),
    )


def text_of(completion: Completion) -> str:
    """The answer's text, if the model finished it and did not refuse."""
    if completion.refusal:
        raise AdvisorUnavailable("REFUSAL", clean_text(completion.refusal, DETAIL_LENGTH_MAX))
    if completion.finish_reason == "length":
        raise MalformedAnswer("CUT_OFF", "the answer was cut off at the token limit")
    if completion.finish_reason == "content_filter":
        raise MalformedAnswer("FILTERED", "the provider's content filter stopped the answer")
    if completion.finish_reason != "stop":
        raise MalformedAnswer(
            "UNFINISHED", f"the answer ended with {clean_text(completion.finish_reason, 40)!r}"
        )
    return completion.text


def string_of(value: Any) -> str:
    """`value` if it is a text, else nothing."""
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int | None:
    """`value` if it can be a number of tokens."""
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def api_of(request: dict[str, Any]) -> ModelApi:
    """The interface that a stored request was made for."""
    return ModelApi.RESPONSES if "input" in request else ModelApi.CHAT_COMPLETIONS


def question_of(request: dict[str, Any]) -> str:
    """The text of the last message of a stored request: what the model was told."""
    messages = request.get("input" if api_of(request) is ModelApi.RESPONSES else "messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return string_of(last.get("content")) if isinstance(last, dict) else ""


# --- the proposal ----------------------------------------------------------------------------------------
def parse_answer(text: str, *, payload: dict[str, Any], position: HeldPosition | None) -> TradeProposal:
    """`text` as the one TradeProposal it must be, on the snapshot that was sent.

    `payload` is the snapshot's; `position` what is held of its symbol. Raises MalformedAnswer.
    """
    found = _validated(_decoded(text))
    if found.snapshot_id != payload["snapshot_id"]:
        raise MalformedAnswer("SNAPSHOT_MISMATCH", "the answer names another snapshot than the one sent")
    if found.symbol != payload["symbol"]:
        raise MalformedAnswer("SYMBOL_MISMATCH", f"the answer is not about {payload['symbol']}")
    _check_facts(found, payload)
    _check_positive(found)
    {
        Action.NO_TRADE: _check_no_trade,
        Action.BUY: _check_buy,
        Action.SELL: _check_sell,
    }[Action(found.action)](found, payload, position)
    return found.model_copy(update={"reasons": clean_text(found.reasons, REASONS_LENGTH_MAX)})


def _decoded(text: str) -> Any:
    if len(text) > ANSWER_LENGTH_MAX:
        raise MalformedAnswer("TOO_LONG", f"the answer has more than {ANSWER_LENGTH_MAX} characters")
    if not text.strip():
        raise MalformedAnswer("EMPTY", "the answer is empty")
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("NOT_JSON", f"not one JSON object: {clean_text(text, 80)!r}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedAnswer("DUPLICATE_KEY", "the answer states a key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedAnswer("NOT_FINITE", f"the answer holds {name}")


def _validated(value: Any) -> TradeProposal:
    try:
        return TradeProposal.model_validate(value)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'answer'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)[:5]
        ]
        raise MalformedAnswer("SCHEMA", clean_text("; ".join(problems), DETAIL_LENGTH_MAX)) from error


def _check_facts(found: TradeProposal, payload: dict[str, Any]) -> None:
    known = {str(fact["id"]): Decimal(str(fact["value"])) for fact in payload["facts"]}
    seen: set[str] = set()
    for fact in found.facts:
        name = clean_text(fact.id, 48)
        if fact.id in seen:
            raise MalformedAnswer("FACT_REPEATED", f"the answer states {name!r} twice")
        seen.add(fact.id)
        if fact.id not in known:
            raise MalformedAnswer("FACT_UNKNOWN", f"the snapshot holds no fact {name!r}")
        try:
            agrees = parse_decimal(fact.value) == known[fact.id]
        except MalformedDecimal:
            agrees = False
        if not agrees:
            raise MalformedAnswer(
                "FACT_CONTRADICTS",
                f"{name} is {known[fact.id]} in the snapshot, {clean_text(fact.value, 40)!r} in the answer",
            )


def _check_positive(found: TradeProposal) -> None:
    for name in _PRICES:
        value = getattr(found, name)
        if value is not None and Decimal(value) <= 0:
            raise MalformedAnswer("NOT_POSITIVE", f"{name} is not above zero")


def _contradicts(detail: str) -> NoReturn:
    raise MalformedAnswer("FIELDS_CONTRADICT", detail)


def _check_no_trade(found: TradeProposal, payload: dict[str, Any], position: HeldPosition | None) -> None:
    stated = [name for name in _ORDER_FIELDS if getattr(found, name) is not None]
    if stated:
        _contradicts(f"NO_TRADE with {', '.join(stated)}")
    if found.no_trade_reason is None:
        _contradicts("NO_TRADE without no_trade_reason")


def _check_order(found: TradeProposal) -> None:
    if found.no_trade_reason is not None:
        _contradicts(f"{found.action} with no_trade_reason")
    if found.order_type is None:
        _contradicts(f"{found.action} without order_type")
    if found.order_type == OrderType.LIMIT and (found.limit_price is None or found.time_in_force is None):
        _contradicts("LIMIT without limit_price and time_in_force")
    if found.order_type == OrderType.MARKET and (found.limit_price or found.time_in_force):
        _contradicts("MARKET with limit_price or time_in_force")


def _check_buy(found: TradeProposal, payload: dict[str, Any], position: HeldPosition | None) -> None:
    _check_order(found)
    if found.quote_amount is None or found.stop_price is None:
        _contradicts("BUY without quote_amount and stop_price")
    if found.position_share_pct is not None:
        _contradicts("BUY with position_share_pct")
    entry = Decimal(found.limit_price) if found.limit_price else Decimal(str(payload["candles"][-1][4]))
    if Decimal(found.stop_price) >= entry:
        raise MalformedAnswer("STOP_SIDE", f"the stop {found.stop_price} is not below the entry {entry}")
    if found.target_price is not None and Decimal(found.target_price) <= entry:
        raise MalformedAnswer(
            "TARGET_SIDE", f"the target {found.target_price} is not above the entry {entry}"
        )


def _check_sell(found: TradeProposal, payload: dict[str, Any], position: HeldPosition | None) -> None:
    _check_order(found)
    if found.position_share_pct is None:
        _contradicts("SELL without position_share_pct")
    stated = [n for n in ("stop_price", "target_price", "quote_amount") if getattr(found, n) is not None]
    if stated:
        _contradicts(f"SELL with {', '.join(stated)}")
    if position is None or position.quantity <= 0:
        raise MalformedAnswer("NO_POSITION", f"SELL of {found.symbol}, of which nothing is held")
