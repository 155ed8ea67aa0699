"""Template tags of the desk: panels by name, and one fixed style of numbers, times and words."""

import json
import re
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from django import template
from django.conf import settings
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from tradingbot.core import panels
from tradingbot.core.decimals import plain
from tradingbot.core.permissions import Deed, may

register = template.Library()
MISSING = "—"
_FORM_ID = re.compile(r'<form\b[^>]* id="([\w-]+)"')

# Status -> (words, tone). The tone only colours what the words already say.
WORDS: dict[str, tuple[str, str]] = {
    "proposed": ("being checked", "idle"),
    "no_trade": ("no trade", "idle"),
    "risk_rejected": ("refused by the gate", "bad"),
    "validated": ("validated", "idle"),
    "auto_approved": ("approved automatically", "good"),
    "pending_approval": ("waits for a person", "warn"),
    "approved": ("approved", "good"),
    "rejected": ("rejected", "bad"),
    "expired": ("expired", "idle"),
    "held": ("held, not decided yet", "idle"),
    "waiting": ("waiting", "idle"),
    "target": ("target reached", "good"),
    "stop": ("stopped out", "bad"),
    "time": ("sold for time", "idle"),
    "not_filled": ("not filled", "idle"),
    "unknown": ("unknown", "warn"),
    "shadow": ("shadow, passed the gate", "idle"),
    "intent": ("intent recorded", "idle"),
    "aborted": ("stopped before sending", "idle"),
    "submitted_to_exchange": ("sent, no answer yet", "warn"),
    "execution_confirmed": ("confirmed", "good"),
    "execution_unknown": ("outcome unknown", "warn"),
    "not_placed": ("proved not placed", "idle"),
    "manual_review_required": ("needs a person", "bad"),
    "critical": ("critical", "bad"),
    "high": ("high", "warn"),
    "info": ("info", "idle"),
    "pass": ("pass", "good"),
    "hold": ("hold", "warn"),
    "deny": ("deny", "bad"),
    "running": ("running", "idle"),
    "clean": ("clean", "good"),
    "degraded": ("degraded", "warn"),
    "divergent": ("divergences found", "bad"),
    "cancel_own": ("cancel it", "idle"),
    "replace_own": ("put it at another price", "idle"),
    "close_position": ("close the position", "idle"),
    "adopt_order": ("adopt its trades", "idle"),
    "cancel_order": ("cancel it on the exchange", "idle"),
    "posted": ("posted from the exchange's record", "good"),
    "gone": ("no longer observed", "idle"),
    "adopted": ("adopted", "good"),
    "cancelled": ("cancelled on the exchange", "good"),
    "ignored": ("ignored", "warn"),
    "reset": ("reset accepted", "good"),
    "auto": ("automatic", "good"),
    "approval": ("approval only", "warn"),
    "exits": ("exits only", "warn"),
    "halted": ("halted by itself", "bad"),
    "under_way": ("under way", "warn"),
    "done": ("done", "good"),
    "incomplete": ("not complete", "bad"),
    "superseded": ("ended by another decision", "idle"),
}
SUBJECT_PAGES = {
    "proposal": "proposal",
    "order": "order",
    "reconciliation": "reconciliation_run",
    "divergence": "divergence",
}


@register.simple_tag(takes_context=True)
def panel(context: dict[str, Any], key: str) -> SafeString:
    """The panel `key` for the user of the page, and after it the tokens of its forms.

    A panel is patched without a request. What stands beside it stays, for posts without the script.
    """
    html = panels.render(key, user=context["request"].user, typed=context.get("typed"))
    return format_html(
        "{}{}",
        mark_safe(html),  # noqa: S308 - our own rendered template
        format_html_join(
            "",
            '<input type="hidden" name="csrfmiddlewaretoken" value="{}" form="{}">',
            ((context["csrf_token"], name) for name in _FORM_ID.findall(html)),
        ),
    )


@register.simple_tag(takes_context=True)
def may_halt(context: dict[str, Any]) -> bool:
    """Whether the user of a page outside the desk (the admin) is shown the Halt button; the view asks again."""
    return may(context["request"].user, Deed.HALT)


@register.simple_tag
def socket_address(keys: Any) -> str:
    """The address of the socket that patches the page with the panels `keys`."""
    return panels.socket_address(keys or ())


@register.simple_tag
def setting(name: str) -> Any:
    """One of the few settings that pages show."""
    shown = {"TRADING_ENVIRONMENT", "TRADING_ENABLED", "ADVISOR_IS_REHEARSAL", "ADVISOR_MODEL", "QUOTE_ASSET"}
    if name not in shown:
        raise template.TemplateSyntaxError(f"{name} is not shown on pages")
    return getattr(settings, name)


@register.filter
def amount(value: Any, places: int | None = None) -> str:
    """A Decimal as `64 200.50`: narrow no-break spaces in groups, a dot, never localised; missing is a dash.

    An indicator's value is a float and is written so when it is told its `places`.
    """
    if isinstance(value, float) and places is not None:
        value = Decimal(f"{value:.{places}f}")
    if not isinstance(value, Decimal):
        return MISSING if value in (None, "") else str(value)
    text = plain(value) if places is None else f"{value:.{places}f}"
    sign, digits = ("\u2212", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}".replace(",", "\u202f") + dot + fraction


@register.filter
def at_most(value: Any, places: int) -> str:
    """Like `amount`, rounded up: for a cost, so that what is shown is never less than what may be paid."""
    return _rounded(value, places, ROUND_CEILING)


@register.filter
def at_least(value: Any, places: int) -> str:
    """Like `amount`, rounded down: for proceeds, so that what is shown is never more than what may come."""
    return _rounded(value, places, ROUND_FLOOR)


def _rounded(value: Any, places: int, rounding: str) -> str:
    if not isinstance(value, Decimal):
        return MISSING
    return amount(value.quantize(Decimal(1).scaleb(-places), rounding=rounding), places)


@register.filter
def signed(value: Any, places: int | None = None) -> str:
    """Like `amount` with an explicit plus and an arrow, so that colour is never the only sign."""
    if not isinstance(value, Decimal):
        return MISSING
    arrow = "▲\u00a0+" if value > 0 else "▼\u00a0" if value < 0 else ""
    return arrow + amount(value, places)


@register.filter
def direction(value: Any) -> str:
    """The CSS class of a signed number."""
    return "" if not isinstance(value, Decimal) or value == 0 else "up" if value > 0 else "down"


@register.filter
def number(value: Any) -> str:
    """A stored plain-text number (JSON) in the style of `amount`; any other text as it is."""
    try:
        parsed = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    return amount(parsed) if parsed.is_finite() else str(value)


@register.filter
def clock(value: Any) -> SafeString | str:
    """An instant as `<time>` with its zone named; a dash when there is none."""
    if not isinstance(value, datetime):
        return MISSING
    return format_html(
        '<time datetime="{}" title="{} UTC">{} UTC</time>',
        value.isoformat(timespec="milliseconds"),
        f"{value:%Y-%m-%d %H:%M:%S}",
        f"{value:%H:%M:%S}",
    )


@register.filter
def moment(value: Any) -> SafeString | str:
    """An instant with its date."""
    if not isinstance(value, datetime):
        return MISSING
    return format_html(
        '<time datetime="{}">{} UTC</time>',
        value.isoformat(timespec="milliseconds"),
        f"{value:%Y-%m-%d %H:%M:%S}",
    )


@register.filter
def age(value: Any) -> SafeString | str:
    """An instant that desk.js shows as its age; without script the instant itself."""
    if not isinstance(value, datetime):
        return MISSING
    return format_html(
        '<time class="age" data-age datetime="{}" title="{} UTC"><span class="abs">{} UTC</span></time>',
        value.isoformat(timespec="milliseconds"),
        f"{value:%Y-%m-%d %H:%M:%S}",
        f"{value:%H:%M:%S}",
    )


@register.filter
def until(value: Any) -> SafeString | str:
    """An instant to come with the countdown that desk.js adds."""
    if not isinstance(value, datetime):
        return MISSING
    return format_html(
        '<time class="until" data-until datetime="{}" title="{} UTC">'
        '<span class="abs">at {} UTC</span></time>',
        value.isoformat(timespec="milliseconds"),
        f"{value:%Y-%m-%d %H:%M:%S}",
        f"{value:%H:%M:%S}",
    )


@register.filter
def milliseconds(value: Any) -> str:
    """A length of time: `840 ms` below ten seconds, else seconds or minutes."""
    if value is None:
        return MISSING
    count = int(value)
    if count < 10_000:
        return f"{count:,} ms".replace(",", "\u202f")
    return f"{count / 1000:.1f} s" if count < 120_000 else f"{count // 60_000} min"


@register.filter
def span(value: Any) -> str:
    """A timedelta: `40 s`, `12 min`, `31 h`."""
    if not isinstance(value, timedelta):
        return MISSING
    seconds = int(value.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


@register.filter
def plain_number(value: Any) -> str:
    """A Decimal as plain text, for a hidden field that must come back exactly."""
    return plain(value) if isinstance(value, Decimal) else ""


@register.filter
def raw_json(value: Any) -> str:
    """A stored answer of the exchange, as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


@register.filter
def autonomy_tone(level: str) -> str:
    """The tone of a level of autonomy; what is not known is bad."""
    return WORDS.get(level, ("", "bad"))[1]


@register.filter
def badge(status: Any) -> SafeString:
    """A status in words, with the tone as its class."""
    words, tone = WORDS.get(str(status), (str(status).replace("_", " "), "idle"))
    return format_html('<span class="badge {}">{}</span>', tone, words)


@register.filter
def words(status: Any) -> str:
    """A status or kind in words."""
    return WORDS.get(str(status), (str(status).replace("_", " "), ""))[0]


@register.filter
def base_asset(symbol: str) -> str:
    """`BTC` of `BTCUSDT`: the symbol without the desk's one quote asset."""
    return symbol.removesuffix(settings.QUOTE_ASSET)


@register.filter
def subject_kind(subject: str) -> str:
    """`order` of the subject `order:<id>`."""
    return subject.partition(":")[0]


@register.filter
def subject_url(subject: str) -> str:
    """The page of an audit or alert subject such as `order:<id>`; empty when it has none."""
    kind, _, row_id = subject.partition(":")
    try:
        return reverse(SUBJECT_PAGES[kind], args=[row_id])
    except (KeyError, NoReverseMatch):
        return ""
