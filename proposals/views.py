"""Pages and commands of proposals."""

from uuid import UUID

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from proposals import selectors, services
from proposals.contracts import DecisionRefused
from proposals.forms import AskForm, RejectForm
from proposals.models import Strategy
from proposals.selectors import scoreboard as board
from tradingbot.core import clock, commands, spreadsheets
from tradingbot.core.permissions import Deed, may, needs

CSV_ROWS_MAX = 50_000


@never_cache
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """What waits for a person, and what was decided lately."""
    return render(
        request, "proposals/queue_page.html", {"here": "queue", "panels": ("queue", "queue.decided")}
    )


@never_cache
@require_safe
def proposal(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """One proposal with everything that a decision needs, and its fate."""
    found = _find(proposal_id)
    keys = tuple(
        f"{name}:{proposal_id}" for name in ("decision", "order.fate", "proposal.rules", "proposal.record")
    )
    context = {"here": "queue", "panels": keys, "proposal": found}
    return render(request, "proposals/proposal_page.html", context)


@never_cache
@require_safe
def all_proposals(request: HttpRequest) -> HttpResponse:
    """All proposals, by outcome."""
    status, page = request.GET.get("status", "all"), request.GET.get("page", "1")
    context = {"here": "proposals", "panels": (f"proposals:{status}:{page}",)}
    return render(request, "proposals/list_page.html", context)


@never_cache
@require_POST
@needs(Deed.REJECT)
def reject(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """Reject exactly what was shown, with a reason: like an approval it ages with its card (invariant 13)."""
    _find(proposal_id)
    form = RejectForm(request.POST)
    shown = commands.Shown(
        keys=(f"decision:{proposal_id}", "badge:pending"),
        page=reverse("proposal", args=[proposal_id]),
    )
    if not form.is_valid():
        sentence = "Not rejected: choose one of the reasons; a note may have 240 characters."
        if not form.says_what_was_shown:
            sentence = (
                "Not rejected: the form does not say which version and digest was shown. Reload the page."
            )
        return commands.refused(request, shown, sentence=sentence, status=422)
    said, actor, now = form.cleaned_data, request.user.get_username(), clock.now()
    order_shown = {"proposal_id": proposal_id, "version": said["version"], "digest": said["digest"]}
    try:
        services.check_shown(token=said["shown"], actor=actor, now=now, **order_shown)
        services.reject_proposal(actor=actor, reason=form.reason, now=now, **order_shown)
    except DecisionRefused as error:
        return commands.refused(request, shown, sentence=error.detail, status=409)
    return commands.done(request, shown, sentence="Rejected. Nothing is ordered.")


@never_cache
@require_safe
def scoreboard(request: HttpRequest) -> HttpResponse:
    """What proposals would have brought by their own stop, target and validity."""
    period = request.GET.get("period", "7d")
    context = {
        "here": "scoreboard",
        "panels": (f"scoreboard:{period}",),
        "periods": board.PERIODS,
        "period": period,
    }
    return render(request, "proposals/scoreboard_page.html", context)


@never_cache
@require_safe
def scoreboard_csv(request: HttpRequest) -> HttpResponse:
    """The rows behind the scoreboard as a file, the newest first."""
    period = request.GET.get("period", "7d")
    if period not in board.PERIODS:
        raise Http404
    rows = board.csv_rows(board.scores(board.since_of(period, clock.now())), CSV_ROWS_MAX)
    answer = HttpResponse(
        spreadsheets.csv_of(board.CSV_COLUMNS, rows), content_type="text/csv; charset=utf-8"
    )
    name = f"scoreboard-{settings.TRADING_ENVIRONMENT}-{period}-{clock.now():%Y%m%d-%H%M%S}.csv"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@never_cache
@require_safe
def advisor(request: HttpRequest) -> HttpResponse:
    """The advisor: its state, and a question out of turn."""
    context = {
        "here": "advisor",
        "panels": ("advisor.state", "advisor.requests"),
        "strategies": Strategy.objects.filter(enabled=True).order_by("name"),
        "may_ask": may(request.user, Deed.ASK),
    }
    return render(request, "proposals/advisor_page.html", context)


@never_cache
@require_POST
@needs(Deed.ASK)
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for a decision on one symbol now."""
    form = AskForm(request.POST)
    shown = commands.Shown(keys=("advisor.requests",), page=reverse("advisor"))
    if not form.is_valid():
        sentence = "Not asked: choose a strategy and a symbol of the list."
        return commands.refused(request, shown, sentence=sentence, status=422)
    try:
        asked = services.ask_decision(
            strategy_id=form.strategy_id,
            symbol=form.symbol,
            actor=request.user.get_username(),
            now=clock.now(),
        )
    except DecisionRefused as error:
        return commands.refused(request, shown, sentence=error.detail, status=409)
    sentence = (
        "Asked. What comes of it shows below; where it takes approval, you cannot be the only one to give it."
    )
    if asked.merged:
        sentence = "A decision on it was asked for already: you get the same one."
    return commands.done(request, shown, sentence=sentence)


def _find(proposal_id: UUID) -> object:
    found = selectors.proposals().filter(pk=proposal_id).first()
    if found is None:
        raise Http404
    return found
