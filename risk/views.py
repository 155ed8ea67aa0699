"""The page of the trading control; commands of risk: the halt with its scope, a smaller order."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from proposals import selectors as proposals
from proposals import services as proposals_services
from proposals.contracts import DecisionRefused
from risk import services
from risk.contracts import ControlRefused, KillScope
from risk.forms import HaltForm, ReduceForm
from tradingbot.core import clock, commands
from tradingbot.core.permissions import Deed, may, needs

_HALTED = {
    KillScope.STOP_ENTRIES: "Halted. Nothing new is ordered and what waited was cancelled; orders already sent "
    "stay.",
    KillScope.CANCEL_ENTRIES: "Halted. Nothing new is ordered; the open entries are being cancelled, and what "
    "protects what is held stays.",
    KillScope.FLATTEN: "Nothing new is opened. What is held is being sold; then trading is halted.",
}


@never_cache
@require_safe
def control(request: HttpRequest) -> HttpResponse:
    """The switch with the scopes of a kill, what each would touch, and how long the last ones took."""
    return render(
        request,
        "risk/control_page.html",
        {
            "here": "control",
            "panels": ("control.kill", "control.autonomy", "control.kills"),
        },
    )


@never_cache
@require_POST
@needs(Deed.HALT)
def halt(request: HttpRequest) -> HttpResponse:
    """Stop all ordering, as far as the scope says. Any operator may, from any page."""
    now = clock.now()
    form = HaltForm(request.POST)
    shown = commands.Shown(
        keys=("shell", "badge:pending", "control.kill", "control.kills"),
        page=commands.came_from(request, otherwise=reverse("overview")),
    )
    if not form.is_valid():
        sentence = (
            "Not halted: the reason may have 200 characters, and the scope is one of the list. "
            "Press Halt at the top of the page: it needs neither."
        )
        return commands.refused(request, shown, sentence=sentence, status=422)
    scope = form.cleaned_data["scope"]
    if scope is KillScope.FLATTEN and not may(request.user, Deed.OPERATE):
        raise PermissionDenied
    reason = form.cleaned_data["reason"] or "halted from the desk"
    try:
        services.halt(actor=request.user.get_username(), reason=reason, now=now, scope=scope)
    except ControlRefused as error:
        return commands.refused(request, shown, sentence=f"Not halted: {error}", status=409)
    return commands.done(request, shown, sentence=_HALTED[scope])


@never_cache
@require_POST
@needs(Deed.REDUCE)
def reduce(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """Take the size of a waiting proposal down; the smaller order is shown and waits to be approved."""
    if not proposals.proposals().filter(pk=proposal_id).exists():
        raise Http404
    form = ReduceForm(request.POST)
    shown = commands.Shown(
        keys=(f"decision:{proposal_id}", f"proposal.rules:{proposal_id}", "badge:pending"),
        page=reverse("proposal", args=[proposal_id]),
    )
    if not form.is_valid():
        sentence = "Not changed: choose one of the shares. The form must say which order was shown."
        return commands.refused(request, shown, sentence=sentence, status=422)
    said, actor, now = form.cleaned_data, request.user.get_username(), clock.now()
    order_shown = {"proposal_id": proposal_id, "version": said["version"], "digest": said["digest"]}
    try:
        proposals_services.check_shown(token=said["shown"], actor=actor, now=now, **order_shown)
        services.reduce_proposal(share_pct=said["share"], actor=actor, now=now, **order_shown)
    except DecisionRefused as error:
        return commands.refused(request, shown, sentence=error.detail, status=409)
    sentence = "Smaller now, and judged again. It is not approved yet: read it, then approve it."
    return commands.done(request, shown, sentence=sentence)
