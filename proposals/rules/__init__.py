"""Pure verbs of proposing: read an answer, bind an approval, pace the breaker."""

from proposals.rules.answers import (
    api_of,
    clean_text,
    parse_answer,
    question_of,
    text_of,
)
from proposals.rules.breaker import FAILURES_TO_OPEN, breaker_name, cool_down_seconds
from proposals.rules.budgets import cost_usd, tokens_of_call, why_no_call
from proposals.rules.digests import digest_of, is_less_of, storable
from proposals.rules.requests import in_schema_order, read_answer, request_of
from proposals.rules.schema import answer_schema
from proposals.rules.strategies import MalformedSymbols, parse_symbols

__all__ = [
    "FAILURES_TO_OPEN",
    "MalformedSymbols",
    "answer_schema",
    "api_of",
    "breaker_name",
    "clean_text",
    "cool_down_seconds",
    "cost_usd",
    "digest_of",
    "in_schema_order",
    "is_less_of",
    "parse_answer",
    "parse_symbols",
    "question_of",
    "read_answer",
    "request_of",
    "storable",
    "text_of",
    "tokens_of_call",
    "why_no_call",
]
