"""Answers to the commands of a page (POST): fresh panels for htmx, a redirect or a page for a plain form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from tradingbot.core import panels

SENTENCE_LENGTH_MAX = 600


@dataclass(frozen=True, slots=True)
class Shown:
    """Where the outcome shows: the panels that the command may have changed, and the page of a plain form."""

    keys: Sequence[str]
    page: str


def is_htmx(request: HttpRequest) -> bool:
    """Whether htmx sent the request and waits for fragments."""
    return request.headers.get("HX-Request") == "true"


def done(request: HttpRequest, shown: Shown, *, sentence: str) -> HttpResponse:
    """The command was carried out: `sentence` says what happened."""
    if is_htmx(request):
        return _fragments(request, shown.keys, sentence, level="status", status=200)
    messages.success(request, sentence)
    return redirect(shown.page)


def refused(request: HttpRequest, shown: Shown, *, sentence: str, status: int) -> HttpResponse:
    """The command was not carried out (409 or 422): `sentence` says why, beside the panels as they are now.

    The page of a plain form gives back what was typed (`typed`); htmx leaves it standing in its field.
    """
    if is_htmx(request):
        return _fragments(request, shown.keys, sentence, level="alert", status=status)
    keys = [key for key in shown.keys if key not in panels.SHELL_KEYS]
    context = {"sentence": sentence, "panels": keys, "page": shown.page, "typed": request.POST}
    return render(request, "core/refused.html", context, status=status)


def came_from(request: HttpRequest, *, otherwise: str) -> str:
    """The page of this site that the command was given on, else `otherwise`."""
    referrer = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(referrer, allowed_hosts={request.get_host()}):
        parts = urlsplit(referrer)
        if parts.path == request.path:  # a command has no page of its own to go back to
            return otherwise
        page = f"{parts.path}?{parts.query}" if parts.query else parts.path
        # "//elsewhere/" is a path of ours in the referrer and another site in a redirect.
        return page if url_has_allowed_host_and_scheme(page, allowed_hosts=None) else otherwise
    return otherwise


def _fragments(
    request: HttpRequest, keys: Sequence[str], sentence: str, *, level: str, status: int
) -> HttpResponse:
    html = "".join(panels.render(key, user=request.user, out_of_band=True) for key in keys)
    say = {"desk:say": {"text": sentence[:SENTENCE_LENGTH_MAX], "level": level}}
    return HttpResponse(html, status=status, headers={"HX-Trigger": json.dumps(say)})
