"""Template tags of the desk: panels by name, and one fixed style of numbers and times."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from tradingbot.core import panels
from tradingbot.core.decimals import plain

register = template.Library()
MISSING = "—"


@register.simple_tag(takes_context=True)
def panel(context: dict[str, Any], key: str) -> SafeString:
    """The panel `key` for the user of the page."""
    return mark_safe(panels.render(key, user=context["request"].user))  # noqa: S308 - our own rendered template


@register.filter
def amount(value: Any, places: int | None = None) -> str:
    """A Decimal as `64 200.50`: narrow no-break spaces in groups, a dot, never localised; missing is a dash."""
    if not isinstance(value, Decimal):
        return MISSING if value in (None, "") else str(value)
    text = plain(value) if places is None else f"{value:.{places}f}"
    sign, digits = ("\u2212", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}".replace(",", "\u202f") + dot + fraction


@register.filter
def signed(value: Any, places: int | None = None) -> str:
    """Like `amount` with an explicit plus and an arrow, so that colour is never the only sign."""
    if not isinstance(value, Decimal):
        return MISSING
    arrow = "▲ +" if value > 0 else "▼ " if value < 0 else ""
    return arrow + amount(value, places)


@register.filter
def clock(value: Any) -> SafeString | str:
    """An instant as `<time>` with its zone named; a dash when there is none."""
    if not isinstance(value, datetime):
        return MISSING
    return format_html(
        '<time datetime="{}" title="{} UTC">{} UTC</time>',
        value.isoformat(),
        f"{value:%Y-%m-%d %H:%M:%S}",
        f"{value:%H:%M:%S}",
    )
