"""Parameters of a request, checked one by one with Binance's codes and texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from simulator.engine.errors import ExchangeError, illegal_characters, invalid_parameter, missing_parameter

CLIENT_ID = re.compile(r"^[a-zA-Z0-9-_]{1,36}$")
DECIMAL = re.compile(r"^([0-9]{1,20})(\.[0-9]{1,20})?$")
INTEGER = re.compile(r"^[0-9]{1,20}$")
INTEGER_MAX = 2**63 - 1
MICROSECONDS_FROM = 10**14
"""Larger times are in microseconds: 10^14 ms would be the year 5138."""

Choice = TypeVar("Choice", bound=StrEnum)


class Params:
    """Named texts. Empty values count as sent but empty (-1105)."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    @classmethod
    def from_request(cls, query: str, body: str) -> Params:
        """Merge query string and form body; the query wins on duplicates (binance.md §2.1), but none may name
        a parameter twice (-1101)."""
        values: dict[str, str] = {}
        for source in (body, query):
            pairs = parse_qsl(source, keep_blank_values=True)
            if len(dict(pairs)) < len(pairs):
                raise ExchangeError(-1101, "Duplicate values for a parameter detected.")
            values.update(pairs)
        return cls(values)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Params:
        """Parameters of a WS API request, where numbers may come as numbers or as texts."""
        return cls({name: _text(value) for name, value in values.items() if value is not None})

    def has(self, name: str) -> bool:
        return name in self._values

    def check_known(self, known: frozenset[str]) -> None:
        """-1101 when more was sent than there is to read, -1104 when something else was."""
        sent, read = len(self._values), len(self._values.keys() & known)
        if sent > len(known):
            raise ExchangeError(-1101, f"Too many parameters; expected '{len(known)}' and received '{sent}'.")
        if read < sent:
            raise ExchangeError(
                -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            )

    def raw(self, name: str) -> str:
        """What was sent, unchecked."""
        return self._values.get(name, "")

    def names(self) -> set[str]:
        return set(self._values)

    def signed_text(self) -> str:
        """What a WS API client signs: all but the signature, sorted by name, not percent-encoded."""
        pairs = sorted(self._values.items())
        return "&".join(f"{name}={value}" for name, value in pairs if name != "signature")

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value == "":
            raise ExchangeError(-1105, f"Parameter '{name}' was empty.")
        return value

    def required(self, name: str) -> str:
        value = self._values.get(name)
        if not value:
            raise missing_parameter(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        if not INTEGER.match(value):
            raise illegal_characters(name, r"^[0-9]{1,20}$")
        number = int(value)
        if number > INTEGER_MAX:
            raise ExchangeError(-1108, f"Parameter '{name}' overflowed.")
        return number

    def moment(self, name: str, *, round_up: bool = False) -> int | None:
        """A time in epoch milliseconds; larger numbers are microseconds."""
        value = self.integer(name)
        if value is None or value < MICROSECONDS_FROM:
            return value
        return -(-value // 1000) if round_up else value // 1000

    def limit(self, default: int, maximum: int) -> int:
        """`limit`: more than the maximum is cut to it, zero is refused."""
        value = self.integer("limit", default)
        assert value is not None
        if value < 1:
            raise invalid_parameter("limit")
        return min(value, maximum)

    def decimal(self, name: str) -> Decimal | None:
        value = self.text(name)
        if value is None:
            return None
        if not DECIMAL.match(value):
            raise illegal_characters(name, r"^([0-9]{1,20})(\.[0-9]{1,20})?$")
        return Decimal(value)

    def required_decimal(self, name: str) -> Decimal:
        self.required(name)
        value = self.decimal(name)
        assert value is not None
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise illegal_characters(name, "^(true|false)$")
        return value.lower() == "true"

    def choice(self, name: str, kind: type[Choice], code: int, message: str) -> Choice | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return kind(value)
        except ValueError:
            raise ExchangeError(code, message) from None

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not CLIENT_ID.match(value):
            raise illegal_characters(name, "^[a-zA-Z0-9-_]{1,36}$")
        return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(f'"{item}"' for item in value) + "]"
    return str(value)
