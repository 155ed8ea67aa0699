"""What people get while the database does not answer: 503, a sentence, and nothing decided."""

import json
import logging
import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.views import defaults

from tradingbot.core.commands import is_htmx

logger = logging.getLogger(__name__)
RETRY_SECONDS = 5
SENTENCE = (
    "The database does not answer; it may be restarting. Nothing was decided, unless the page shows it when it "
    "is back: look first, then try again."
)
# Errors that PostgreSQL itself raised for one statement (deadlock, cancelled, out of space) are faults, not an
# outage; it is away when it said so (class 57P and 08) or when nobody was there to say anything.
AWAY = ("57P", "08")


def is_outage(error: BaseException | None) -> bool:
    """Whether `error` says that the database is away: refused, cut, shutting down, or no connection in time."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(AWAY)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`: 503 while the database is away, else the page for faults."""
    error = sys.exc_info()[1]
    if not is_outage(error):
        return defaults.server_error(request)
    logger.error("database away", extra={"path": request.path, "error": type(error).__name__})
    headers = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
    if is_htmx(request):
        say = {"desk:say": {"text": SENTENCE, "level": "alert"}}
        headers |= {"HX-Trigger": json.dumps(say), "HX-Reswap": "none"}
        return HttpResponse(status=503, headers=headers)
    # Without the request: its context would ask the database who is there.
    again = request.get_full_path() if request.method == "GET" else ""
    context = {"sentence": SENTENCE, "again": again, "seconds": RETRY_SECONDS}
    return HttpResponse(render_to_string("503.html", context), status=503, headers=headers)
