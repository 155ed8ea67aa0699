"""Send a stored request again, to see what another model or the same one says now. Nothing of it can be ordered:
no decision, no proposal and no budget is written, only a link of the audit log with the hashes."""

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.conf import settings

from proposals import rules
from proposals.adapters import advisor
from proposals.contracts import (
    AdvisorUnavailable,
    Answer,
    DecisionRefused,
    HeldPosition,
    MalformedAnswer,
    TradeProposal,
)
from proposals.models import Decision
from tradingbot.core import audit, logs
from tradingbot.core.audit import canonical_json, sha256_hex

DIFF_LINES_MAX = 400


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer came to: its proposal's fields, or the code of why it is none; `text` as it was written."""

    outcome: str
    fields: dict[str, Any]
    text: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The stored answer beside that of now."""

    before: Said
    after: Said
    model_asked: str
    model_answered: str
    latency_ms: int | None

    @property
    def changed(self) -> list[tuple[str, Any, Any]]:
        """(field, before, after) of each field of the proposal that differs."""
        names = dict.fromkeys([*self.before.fields, *self.after.fields])
        pairs = ((name, self.before.fields.get(name), self.after.fields.get(name)) for name in names)
        return [(name, old, new) for name, old, new in pairs if old != new]

    @property
    def raw_diff(self) -> list[str]:
        """The answers' texts as a unified diff, JSON line by line."""
        lines = difflib.unified_diff(
            _lines(self.before.text), _lines(self.after.text), "stored", "now", lineterm=""
        )
        return list(lines)[:DIFF_LINES_MAX]


def replay_decision(*, decision: Decision, model: str, actor: str, now: datetime) -> Replay:
    """Send the stored request of `decision` again, to `model` if one is named.

    Raises DecisionRefused (NOTHING_SENT) when no request of it is stored.
    """
    if decision.request is None or decision.snapshot is None:
        raise DecisionRefused("NOTHING_SENT", f"Decision {decision.pk} ended before a request was made.")
    request = rules.in_schema_order(decision.request) | ({"model": model} if model else {})
    asked_model = str(request["model"])
    answer, after = _ask(request, decision)
    audit.record(
        action="decision.replayed",
        subject=f"decision:{decision.pk}",
        actor=actor,
        now=now,
        model=asked_model,
        outcome=after.outcome,
        request_sha256=sha256_hex(canonical_json(request)),
        response_sha256=sha256_hex(logs.redact(answer.body)) if answer else "",
    )
    return Replay(
        before=_stored(decision),
        after=after,
        model_asked=asked_model,
        model_answered=_model_of(request, answer),
        latency_ms=answer.latency_ms if answer else None,
    )


def _ask(request: dict[str, Any], decision: Decision) -> tuple[Answer | None, Said]:
    try:
        answer = advisor.ask(
            request,
            base_url=settings.OPENAI_BASE_URL,
            timeout_seconds=settings.ADVISOR_TIMEOUT_SECONDS,
        )
    except AdvisorUnavailable as error:
        return None, Said(error.code, {}, logs.redact(error.detail))
    return answer, _read(answer, decision)


def _stored(decision: Decision) -> Said:
    if not decision.response_text:
        return Said(decision.outcome, {}, decision.outcome_detail)
    return _read(Answer(decision.response_text, False, "", 0), decision)


def _read(answer: Answer, decision: Decision) -> Said:
    """Judged exactly as the decision was: same snapshot, same position."""
    assert decision.snapshot is not None
    text = ""
    try:
        text = rules.text_of(rules.read_answer(decision.request or {}, answer))
        found = rules.parse_answer(text, payload=decision.snapshot.payload, position=_position(decision))
    except (AdvisorUnavailable, MalformedAnswer) as error:
        return Said(error.code, {}, logs.redact(text or answer.body))
    return Said("OK", _fields(found), logs.redact(text))


def _fields(found: TradeProposal) -> dict[str, Any]:
    return {name: value for name, value in found.model_dump(mode="json").items() if value is not None}


def _position(decision: Decision) -> HeldPosition | None:
    """The position that the stored request told of, as far as an answer is held against it."""
    text = rules.question_of(decision.request or {})
    try:
        told, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
        quantity = Decimal(told["position"]["quantity"])
    except (ValueError, TypeError, KeyError, InvalidOperation):
        return None
    return HeldPosition(quantity, Decimal(told["position"]["average_price"]), None, None, None)


def _model_of(request: dict[str, Any], answer: Answer | None) -> str:
    try:
        return rules.read_answer(request, answer).model_answered if answer else ""
    except MalformedAnswer:
        return ""


def _lines(text: str) -> list[str]:
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False).splitlines()
    except (ValueError, RecursionError):
        return text.splitlines()
