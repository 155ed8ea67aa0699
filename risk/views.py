"""Commands of risk: the halt."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from proposals import selectors as proposals
from proposals import services as proposals_services
from proposals.contracts import DecisionRefused
from risk import services
from risk.contracts import ControlRefused
from risk.forms import HaltForm, ReduceForm
from tradingbot.core import clock, commands
from tradingbot.core.permissions import Deed, needs


@never_cache
@require_POST
@needs(Deed.HALT)
def halt(request: HttpRequest) -> HttpResponse:
    """Stop all ordering. Any operator may, from any page."""
    form = HaltForm(request.POST)
    shown = commands.Shown(
        keys=("shell", "badge:pending"),
        page=commands.came_from(request, otherwise=reverse("overview")),
    )
    if not form.is_valid():
        sentence = "Not halted: the reason may have 200 characters. Halt without one, or shorten it."
        return commands.refused(request, shown, sentence=sentence, status=422)
    reason = form.cleaned_data["reason"] or "halted from the desk"
    try:
        services.halt(actor=request.user.get_username(), reason=reason, now=clock.now())
    except ControlRefused as error:
        return commands.refused(request, shown, sentence=f"Not halted: {error}", status=409)
    sentence = "Halted. Nothing new is ordered and what waited was cancelled; orders already sent stay."
    return commands.done(request, shown, sentence=sentence)


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
