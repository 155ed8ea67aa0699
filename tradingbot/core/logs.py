"""Logging with redaction: no secret and no signature leaves through a log (invariant 11)."""

import logging
import re

REDACTED = "[redacted]"
_PATTERNS = [
    re.compile(
        r"(?i)(signature|apikey|api_key|secretkey|secret_key|password|x-mbx-apikey)(['\"]?\s*[=:]\s*['\"]?)[^&\s'\",}]+"
    ),
    re.compile(r"(?i)(authorization)(['\"]?\s*[=:]\s*['\"]?)([a-z]+\s+)?[^\s'\",}]+"),
]
_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """From now on replace `value` wherever a log line holds it."""
    if len(value) >= 6:
        _secrets.add(value)


def without_secrets(text: str) -> str:
    """`text` without registered secrets and otherwise as it is."""
    for value in sorted(_secrets, key=len, reverse=True):  # a copy: other threads register meanwhile
        text = text.replace(value, REDACTED)
    return text


def redact(text: str) -> str:
    """`text` without registered secrets and without the values of secret-looking names."""
    text = without_secrets(text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1\2{REDACTED}", text)
    return text


class RedactingFormatter(logging.Formatter):
    """Formats the record, tracebacks included, appends `extra` fields, then redacts the whole line."""

    _STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data"}

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        extra = {k: v for k, v in vars(record).items() if k not in self._STANDARD and not k.startswith("_")}
        if extra:
            text = f"{text} {' '.join(f'{k}={v}' for k, v in sorted(extra.items()))}"
        return redact(text)
