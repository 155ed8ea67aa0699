"""Pages that span the apps: overview, panels by name."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tradingbot.core import panels

OVERVIEW_PANELS = (
    "reviews",
    "queue.next",
    "alerts.open",
    "account",
    "reconciliation.verdict",
    "slo",
    "proposals.recent",
    "orders.recent",
    "feeds",
)


@never_cache
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Everything at a glance."""
    return render(request, "operations/overview.html", {"here": "overview", "panels": OVERVIEW_PANELS})


@never_cache
@require_safe
def more(request: HttpRequest) -> HttpResponse:
    """The pages that the phone's bar has no room for."""
    return render(request, "operations/more.html", {"here": "more", "panels": ()})


@never_cache
@require_safe
def fresh_panels(request: HttpRequest) -> HttpResponse:
    """The panels `?keys=a,b` as patches, for a page that missed something."""
    keys = panels.parse_keys(request.GET.get("keys", ""))
    return HttpResponse("".join(panels.render(key, user=request.user, out_of_band=True) for key in keys))
