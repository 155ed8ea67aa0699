"""The JSON schema that the model's answer is constrained by, derived from TradeProposal."""

from typing import Any

from proposals.contracts import TradeProposal

# What OpenAI's strict mode and the common local servers all understand (reference/stack.md §1.2, §1.6).
# Ranges, patterns and lengths are left out: not every server takes them, and `parse_answer` checks them.
_KEPT = frozenset({"type", "enum", "properties", "required", "items", "additionalProperties", "anyOf"})


def answer_schema() -> dict[str, Any]:
    """The strict schema: every key required, no further keys, no references, the order of the model."""
    whole = TradeProposal.model_json_schema()
    return _reduced(whole, whole.get("$defs", {}))


def _reduced(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        return _reduced(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    found: dict[str, Any] = {key: value for key, value in node.items() if key in _KEPT}
    if "const" in node:
        found["enum"] = [node["const"]]
    if "items" in found:
        found["items"] = _reduced(found["items"], definitions)
    if "anyOf" in found:
        found["anyOf"] = [_reduced(option, definitions) for option in found["anyOf"]]
    if "properties" in found:
        found["properties"] = {
            name: _reduced(child, definitions) for name, child in found["properties"].items()
        }
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    return found
