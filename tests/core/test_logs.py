"""No secret and no signature leaves through a log (invariant 11)."""

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tradingbot.core import logs

SECRET = "obviously-fake-secret-0123456789"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = set(logs._secrets)
    logs.register_secret(SECRET)
    yield
    logs._secrets.clear()
    logs._secrets.update(before)


def line(message: str, *arguments: Any, **extra: Any) -> str:
    record = logging.makeLogRecord(
        {"msg": message, "args": arguments, "levelname": "INFO", "name": "test"} | extra
    )
    return logs.RedactingFormatter("{levelname} {name}: {message}", style="{").format(record)


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        (f"the key is {SECRET}.", SECRET),
        ("GET /api/v3/order?symbol=X&timestamp=1&signature=abc123def HTTP/1.1", "abc123def"),
        ("headers {'X-MBX-APIKEY': 'abc123def'}", "abc123def"),
        ("Authorization: Bearer sk-abc123def", "sk-abc123def"),
        ('{"authorization": "Bearer sk-abc123def"}', "sk-abc123def"),
        ("Authorization: Basic dXNlcjpmYWtl", "dXNlcjpmYWtl"),
        ('"Authorization": "Basic dXNlcjpmYWtl"', "dXNlcjpmYWtl"),
        ("password=hunter2hunter2", "hunter2hunter2"),
        ('{"apiKey": "abc123def", "secretKey": "ghi456"}', "ghi456"),
    ],
)
def test_what_looks_like_a_secret_is_cut_out(text: str, leak: str) -> None:
    assert leak not in logs.redact(text)
    assert logs.REDACTED in logs.redact(text)


def test_what_stands_around_a_signature_stays() -> None:
    assert logs.redact("symbol=X&signature=abc&timestamp=1") == "symbol=X&signature=[redacted]&timestamp=1"


def test_arguments_and_extra_fields_are_redacted() -> None:
    found = line("sent %s", f"key {SECRET}", order="42", url="?signature=abc123def")

    assert SECRET not in found
    assert "abc123def" not in found
    assert "order=42" in found


def test_a_traceback_is_redacted() -> None:
    try:
        raise ValueError(f"bad key {SECRET}")
    except ValueError:
        found = line("failed", exc_info=sys.exc_info())

    assert "ValueError" in found
    assert SECRET not in found


def test_a_short_word_is_not_taken_for_a_secret() -> None:
    logs.register_secret("spot")

    assert logs.redact("a spot order") == "a spot order"


def test_a_secret_within_a_longer_one_leaves_nothing_of_that_to_be_read() -> None:
    for number in range(20):  # a set has no order of its own
        logs.register_secret(f"{SECRET}-{number}-tail")

    assert [logs.redact(f"{SECRET}-{number}-tail") for number in range(20)] == [logs.REDACTED] * 20


def test_a_secret_that_is_registered_meanwhile_breaks_no_line() -> None:
    class Line(str):
        """While it is cut, another thread registers a secret."""

        def replace(self, *words: Any) -> "Line":
            logs.register_secret("another-obviously-fake-secret")
            return Line(super().replace(*words))

    assert logs.redact(Line(f"key {SECRET}")) == f"key {logs.REDACTED}"


def test_the_settings_log_through_the_redacting_formatter(settings: Any) -> None:
    assert settings.LOGGING["formatters"]["line"]["()"] == "tradingbot.core.logs.RedactingFormatter"
    assert settings.LOGGING["root"]["handlers"] == ["stderr"]
