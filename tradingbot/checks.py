"""System checks: settings that contradict each other stop the boot, with one line each."""

import os
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from tradingbot.core.environments import Environment

KEY_PARTS = ("API_KEY", "API_SECRET")


@register
def check_symbols(**_: Any) -> list[CheckMessage]:
    """What is traded must be named, once, and priced in the one quote asset."""
    symbols = settings.SYMBOLS
    if not symbols:
        return [
            Error(
                "SYMBOLS names no symbol.", hint="For example SYMBOLS=BTCUSDT,ETHUSDT", id="tradingbot.E001"
            )
        ]
    wrong = [s for s in symbols if not s.endswith(settings.QUOTE_ASSET) or s == settings.QUOTE_ASSET]
    wrong += [s for s in set(symbols) if symbols.count(s) > 1]
    return [
        Error(
            f"SYMBOLS names {symbol!r:.40}, which is named twice or not priced in {settings.QUOTE_ASSET}.",
            hint="For example SYMBOLS=BTCUSDT,ETHUSDT",
            id="tradingbot.E002",
        )
        for symbol in wrong
    ]


@register
def check_live(**_: Any) -> list[CheckMessage]:
    """Real money asks for more: no plain cookies, no rehearsal model, no trading before its stage is passed."""
    if settings.TRADING_ENVIRONMENT is not Environment.LIVE:
        return []
    wrong = {
        "E010": ("DEBUG is on in the live environment.", settings.DEBUG),
        "E011": (
            "SECURE_COOKIES is off in the live environment: sessions could be read on the way.",
            not (settings.SESSION_COOKIE_SECURE and settings.CSRF_COOKIE_SECURE),
        ),
        "E012": (
            "ALLOWED_HOSTS lets every host through in the live environment.",
            "*" in settings.ALLOWED_HOSTS,
        ),
        "E013": (
            "TRADING_ENABLED is on in the live environment, and no passed stage gate is on record.",
            settings.TRADING_ENABLED,
        ),
        "E014": (
            "ADVISOR_MODEL is the rehearsal model in the live environment.",
            settings.ADVISOR_IS_REHEARSAL,
        ),
    }
    return [Error(text, id=f"tradingbot.{code}") for code, (text, is_wrong) in wrong.items() if is_wrong]


@register
def check_foreign_keys(**_: Any) -> list[CheckMessage]:
    """Keys of another environment are never read; that they lie about is worth a word."""
    others = [e for e in Environment if e is not settings.TRADING_ENVIRONMENT]
    names = [
        f"BINANCE_{other.upper()}_{part}{suffix}"
        for other in others
        for part in KEY_PARTS
        for suffix in ("", "_FILE")
    ]
    return [
        Warning(
            f"{name} is set, and TRADING_ENVIRONMENT is {settings.TRADING_ENVIRONMENT}: it is not read.",
            hint="Keep keys of other environments out of this process.",
            id="tradingbot.W001",
        )
        for name in names
        if os.environ.get(name)
    ]
