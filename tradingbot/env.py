"""Typed readers of the environment. Each refusal names the setting, what it was and what it may be."""

import os
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from tradingbot.core.decimals import MalformedDecimal, parse_decimal


class SettingError(Exception):
    """A setting is missing or malformed; the text is one line for the person who sets it."""


def text(name: str, default: str | None = None) -> str:
    """The value of `name`, or `default`; without a default the setting is required."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise SettingError(f"{name} is not set and has no default.")
    return default


def boolean(name: str, default: bool) -> bool:
    """true/false, yes/no, on/off, 1/0 in any case."""
    value = text(name, "true" if default else "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise SettingError(f"{name}={value!r} is not a yes or a no. Use true or false.")


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """A whole number within [minimum, maximum]."""
    raw = text(name, str(default))
    if not raw.isascii() or not raw.lstrip("-").isdigit():
        raise SettingError(f"{name}={raw!r} is not a whole number.")
    value = int(raw)
    if not minimum <= value <= maximum:
        raise SettingError(f"{name}={value} is outside {minimum} to {maximum}.")
    return value


def decimal(name: str, default: str, *, minimum: str, maximum: str) -> Decimal:
    """A plain decimal number within [minimum, maximum]."""
    raw = text(name, default)
    try:
        value = parse_decimal(raw)
    except MalformedDecimal as error:
        raise SettingError(f"{name}={raw!r} is not a plain decimal number such as 50 or 0.25.") from error
    if not Decimal(minimum) <= value <= Decimal(maximum):
        raise SettingError(f"{name}={raw} is outside {minimum} to {maximum}.")
    return value


def choice(name: str, default: str, options: list[str]) -> str:
    """One of `options`, exactly as spelt."""
    value = text(name, default)
    if value not in options:
        raise SettingError(f"{name}={value!r} is not known. Use one of: {', '.join(options)}.")
    return value


def url(name: str, default: str | None, *, schemes: set[str]) -> str:
    """A URL with one of `schemes`; one that names a host must spell it and any port well."""
    value = text(name, default)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise SettingError(f"{name} is not a URL: {error}.") from error
    if parts.scheme not in schemes:
        raise SettingError(f"{name} must start with {' or '.join(sorted(s + '://' for s in schemes))}.")
    if not (parts.netloc or parts.path):
        raise SettingError(f"{name} names no host.")
    return value


def secret(name: str, default: str | None = None) -> str:
    """A secret from `name`_FILE (preferred: it stays out of /proc/*/environ) or `name`."""
    path = os.environ.get(f"{name}_FILE", "").strip()
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingError(f"{name}_FILE={path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError:
            # Not chained: the error holds what was read.
            raise SettingError(f"{name}_FILE={path} is not a text in UTF-8.") from None
    return text(name, default)
