"""What the model writes is shown as plain text and does nothing; templates keep to the strict policy."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from tests.web import seeding
from tradingbot.core import clock

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> "
    "<a href='javascript:alert(1)'>click</a> https://evil.example/ {{ 7|add:1 }} "
    "<div hx-post='/halt/' hx-trigger='load' hx-swap-oob='outerHTML:#main'>gone</div> &lt;b&gt; \" ' </section>"
)
TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
# What the strict policy would block, or what needs eval in htmx.
FORBIDDEN = {
    "inline script": re.compile(r"<script(?![^>]*\ssrc=)"),
    "inline style": re.compile(r"<style|\sstyle\s*="),
    "event handler": re.compile(r"\son[a-z]+\s*=", re.I),
    "hx-on": re.compile(r"hx-on"),
    "computed value": re.compile(r"['\"]\s*(js|javascript):"),
    "trigger filter": re.compile(r"hx-trigger=\"[^\"]*\["),
    "unescaped": re.compile(r"\|safe|autoescape off"),
    # The one link that a licence asks for; nothing is loaded from there.
    "another host": re.compile(r"(src|href)=\"(https?:)?//(?!www\.tradingview\.com/\" rel=\"noreferrer\">)"),
}


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["approvals", "decision", "alerts", "proposals"])
def test_hostile_text_is_shown_and_not_obeyed(client: Client, page: str) -> None:
    now = clock.now()
    client.force_login(seeding.operator())
    row = seeding.proposal(
        now, reasons=HOSTILE, answer={"facts": [{"id": HOSTILE, "value": HOSTILE}, "no fact"]}, refusal=HOSTILE,
        decision_reason=HOSTILE[:300],
    )  # fmt: skip
    seeding.alert(now, title=HOSTILE[:200], detail=HOSTILE)
    address = {"approvals": f"/approvals/{row.pk}/", "decision": f"/panels/?keys=proposal.record:{row.pk}"}

    text = client.get(address.get(page, f"/{page}/")).content.decode()

    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<a href='javascript" not in text
    assert "<div hx-post" not in text


@pytest.mark.django_db
def test_model_text_lies_where_htmx_does_not_look(client: Client) -> None:
    client.force_login(seeding.operator())
    row = seeding.proposal(clock.now(), reasons=HOSTILE)

    text = client.get(f"/approvals/{row.pk}/").content.decode()
    held = re.search(r'<div class="model" hx-ignore[^>]*>(.*?)</div>', text, re.S)

    assert held is not None
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in held.group(1)
    assert "<a " not in held.group(1)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_needs_nothing_that_the_policy_blocks(template: Path) -> None:
    text = template.read_text()

    found = [name for name, pattern in FORBIDDEN.items() if pattern.search(text)]

    assert found == []


@pytest.mark.django_db
def test_policy_is_strict_on_every_page(client: Client) -> None:
    policy = client.get("/login/").headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
