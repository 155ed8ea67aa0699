"""Reading a Responses body as strictly as a Chat Completions one: one finished message with one text, or nothing."""

import json
from typing import Any

from proposals.contracts import Answer, Completion, MalformedAnswer
from proposals.rules.answers import clean_text, count_of, string_of

# Beside the message, models that think first put their thoughts there; anything else, such as a tool's call, was
# not asked for.
_OTHER_ITEMS = frozenset({"reasoning"})
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}


def read_response(answer: Answer) -> Completion:
    """The one message of a Responses body; raises MalformedAnswer (TOO_LONG, NOT_A_COMPLETION)."""
    if answer.truncated:
        raise MalformedAnswer("TOO_LONG", "the body is longer than any proposal can be")
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer(
            "NOT_A_COMPLETION", f"the body is not JSON: {clean_text(answer.body, 80)!r}"
        ) from error
    if not isinstance(body, dict) or not isinstance(body.get("output"), list):
        raise MalformedAnswer("NOT_A_COMPLETION", "the body holds no list of outputs")
    finish = _finish(body)
    text, refusal = _said(body["output"], finished=finish == "stop")
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    return Completion(
        text=text,
        refusal=refusal,
        finish_reason=finish,
        model_answered=clean_text(string_of(body.get("model")), 80),
        prompt_tokens=count_of(usage.get("input_tokens")),
        completion_tokens=count_of(usage.get("output_tokens")),
    )


def _finish(body: dict[str, Any]) -> str:
    """In the words of Chat Completions: `stop` for a completed one, else why it is not."""
    status = string_of(body.get("status"))
    if status == "completed" and not body.get("error"):
        return "stop"
    details = body.get("incomplete_details")
    reason = string_of(details.get("reason")) if isinstance(details, dict) else ""
    return _FINISH.get(reason, reason or status or "no status")


def _said(output: list[Any], *, finished: bool) -> tuple[str, str]:
    """(text, refusal) of the one message; an unfinished body may lack it."""
    if not all(isinstance(item, dict) for item in output):
        raise MalformedAnswer("NOT_A_COMPLETION", "an output is not an object")
    messages = [item for item in output if item.get("type") == "message"]
    strange = [item for item in output if string_of(item.get("type")) not in {"message", *_OTHER_ITEMS}]
    if strange:
        kind = clean_text(string_of(strange[0].get("type")), 40)
        raise MalformedAnswer("NOT_A_COMPLETION", f"an output of the kind {kind!r} was not asked for")
    if not messages and not finished:
        return "", ""
    if len(messages) != 1:
        raise MalformedAnswer("NOT_A_COMPLETION", "the body does not hold exactly one message")
    parts = messages[0].get("content")
    if not isinstance(parts, list) or len(parts) != 1 or not isinstance(parts[0], dict):
        raise MalformedAnswer("NOT_A_COMPLETION", "the message does not hold exactly one part")
    if messages[0].get("status", "completed") != "completed" and finished:
        raise MalformedAnswer("NOT_A_COMPLETION", "the message is not completed, though the body says so")
    if parts[0].get("type") == "refusal":
        return "", string_of(parts[0].get("refusal")) or "refused without a word"
    if parts[0].get("type") != "output_text":
        raise MalformedAnswer("NOT_A_COMPLETION", "the message holds no text")
    return string_of(parts[0].get("text")), ""
