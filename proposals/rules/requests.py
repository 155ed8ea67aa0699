"""The same question and the same strictness over either interface of a model."""

from typing import Any

from proposals.contracts import COMPLETION_TOKENS_MAX, Answer, Completion, ModelApi
from proposals.rules.answers import api_of, read_completion
from proposals.rules.responses import read_response
from proposals.rules.schema import answer_schema

SCHEMA_NAME = "trade_proposal"


def request_of(*, api: ModelApi, model: str, system: str, user: str) -> dict[str, Any]:
    """The body of the request: the two texts, the strict schema, and how long the answer may be."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    schema = {"name": SCHEMA_NAME, "strict": True, "schema": answer_schema()}
    if api is ModelApi.RESPONSES:
        return {
            "model": model,
            "input": messages,
            "text": {"format": {"type": "json_schema", **schema}},
            "max_output_tokens": COMPLETION_TOKENS_MAX,
            "store": False,  # what was asked and said is kept here, not there
        }
    return {
        "model": model,
        "messages": messages,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "max_completion_tokens": COMPLETION_TOKENS_MAX,
    }


def in_schema_order(stored: Any) -> Any:
    """A stored request with each object of its schema in the order in which it was sent.

    jsonb sorts keys, and models write their answer in the order of the schema: the facts before the action. What
    jsonb leaves alone is `required`, which names all of them in their order.
    """
    if isinstance(stored, list):
        return [in_schema_order(item) for item in stored]
    if not isinstance(stored, dict):
        return stored
    found = {name: in_schema_order(value) for name, value in stored.items()}
    if isinstance(found.get("properties"), dict) and isinstance(found.get("required"), list):
        found["properties"] = {name: found["properties"][name] for name in found["required"]}
    return found


def read_answer(request: dict[str, Any], answer: Answer) -> Completion:
    """What came back for `request`; raises MalformedAnswer."""
    return read_response(answer) if api_of(request) is ModelApi.RESPONSES else read_completion(answer)
