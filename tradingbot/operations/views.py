"""Pages that span the apps: overview, alerts, panels by name."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from tradingbot.core import alerts as alert_services
from tradingbot.core import clock, commands, panels
from tradingbot.core.models import Alert

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
def alerts(request: HttpRequest) -> HttpResponse:
    """Open alerts, critical first, and those closed lately."""
    return render(
        request, "operations/alerts.html", {"here": "alerts", "panels": ("alerts", "alerts.closed")}
    )


@never_cache
@require_POST
def acknowledge(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Mark an alert as seen."""
    if not Alert.objects.filter(pk=alert_id).exists():
        raise Http404
    taken = alert_services.acknowledge_alert(
        alert_id=alert_id, actor=request.user.get_username(), now=clock.now()
    )
    shown = commands.Shown(keys=("alerts", "badge:alerts"), page=reverse("alerts"))
    if taken:
        return commands.done(request, shown, sentence="Acknowledged.")
    sentence = "Somebody acknowledged this alert before you, or it is closed. The list shows how it stands."
    return commands.refused(request, shown, sentence=sentence, status=409)


@never_cache
@require_safe
def fresh_panels(request: HttpRequest) -> HttpResponse:
    """The panels `?keys=a,b` as patches, for a page that missed something."""
    try:
        keys = panels.parse_keys(request.GET.get("keys", ""))
        html = "".join(panels.render(key, user=request.user, out_of_band=True) for key in keys)
    except panels.UnknownPanel as error:
        raise Http404 from error
    return HttpResponse(html)
