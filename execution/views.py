"""Pages and commands of execution."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from execution import selectors, services
from execution.contracts import AnswerRefused, Decision, RequestKind
from execution.forms import (
    WATCH,
    CancelForm,
    CloseForm,
    ReplaceForm,
    ReviewForm,
    SettleForm,
)
from execution.models import Divergence, Order, ReconciliationRun
from execution.rules import reporting
from proposals import selectors as proposals
from proposals import services as approvals
from proposals.contracts import DecisionRefused, ProposalStatus
from proposals.forms import DecisionForm
from tradingbot.core import clock, commands
from tradingbot.core.permissions import Deed, may, needs


@never_cache
@require_POST
@needs(Deed.APPROVE)
def approve(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """Approve exactly what was shown: the form carries its version and digest (invariant 13)."""
    if not proposals.proposals().filter(pk=proposal_id).exists():
        raise Http404
    form = DecisionForm(request.POST)
    shown = commands.Shown(
        keys=(f"decision:{proposal_id}", f"order.fate:{proposal_id}", "badge:pending"),
        page=reverse("proposal", args=[proposal_id]),
    )
    if not form.is_valid():
        sentence = "Not approved: the form does not say which version and digest was shown. Reload the page."
        return commands.refused(request, shown, sentence=sentence, status=422)
    said, actor, now = form.cleaned_data, request.user.get_username(), clock.now()
    order_shown = {"proposal_id": proposal_id, "version": said["version"], "digest": said["digest"]}
    try:
        approvals.check_shown(token=said["shown"], actor=actor, now=now, **order_shown)
        decided = services.approve_proposal(actor=actor, now=now, **order_shown)
    except DecisionRefused as error:
        return commands.refused(request, shown, sentence=error.detail, status=409)
    if decided.status == ProposalStatus.PENDING_APPROVAL:
        sentence = "Your approval counts. Nothing is ordered before somebody else approves the same order."
        return commands.done(request, shown, sentence=sentence)
    sentence = "Approved. The gate judges it once more, then it is sent; its fate appears below."
    return commands.done(request, shown, sentence=sentence)


@never_cache
@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    """All orders, newest first."""
    context = {"here": "orders", "panels": (f"orders:{request.GET.get('page', '1')}",)}
    return render(request, "execution/orders_page.html", context)


@never_cache
@require_safe
def order(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """One order with its timeline."""
    found = _order(order_id)
    context = {
        "here": "orders",
        "panels": (f"order:{order_id}",),
        "order": found,
    }
    return render(request, "execution/order_page.html", context)


@never_cache
@require_POST
@needs(Deed.OPERATE)
def cancel_order(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Ask for the cancel of an open order of ours; a trading worker sends it, once."""
    _order(order_id)
    shown = commands.Shown(keys=(f"order:{order_id}",), page=reverse("order", args=[order_id]))
    sentence = "Taken. It is sent once; what came of it shows here in a few seconds."
    return _ask(request, shown, CancelForm, partial(services.ask_cancel, order_id=order_id), sentence)


@never_cache
@require_POST
@needs(Deed.REPLACE)
def replace_order(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """Ask for a resting entry at another price; a trading worker cancels it and places the rest, each once."""
    _order(order_id)
    shown = commands.Shown(keys=(f"order:{order_id}",), page=reverse("order", args=[order_id]))
    sentence = "Taken. It is cancelled, then the rest is placed once; what came of it shows here."
    return _ask(request, shown, ReplaceForm, partial(services.ask_replace, order_id=order_id), sentence)


@never_cache
@require_POST
@needs(Deed.OPERATE)
def close_position(request: HttpRequest, symbol: str) -> HttpResponse:
    """Ask to sell all of a position at market; a trading worker cancels its protection first and sells once."""
    shown = commands.Shown(keys=("positions",), page=reverse("positions"))
    sentence = "Taken. Its protection is cancelled, then it is sold once; the outcome shows here."
    return _ask(request, shown, CloseForm, partial(services.ask_close, symbol=symbol), sentence)


@never_cache
@require_safe
def review(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """What is known of an order of unknown fate, and what a person may answer."""
    found = _order(order_id)
    context = {
        "here": "orders",
        "panels": (f"review:{order_id}",),
        "order": found,
    }
    return render(request, "execution/review_page.html", context)


@never_cache
@require_POST
def answer_review(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """A person's answer for an order of unknown fate: version, reason, and trade ids where it was filled."""
    _order(order_id)
    form = ReviewForm(request.POST)
    shown = commands.Shown(keys=(f"review:{order_id}",), page=reverse("review", args=[order_id]))
    if not may(request.user, Deed.RESOLVE):
        return _not_allowed(request, shown)
    if not form.is_valid():
        return commands.refused(request, shown, sentence=_first_error(form), status=422)
    said = form.cleaned_data
    stated = {
        "order_id": order_id,
        "version": said["version"],
        "reason": said["reason"],
        "actor": request.user.get_username(),
        "now": clock.now(),
    }
    if said["answer"] == WATCH:
        sentence = "Watching on. A person is asked again when the time is over and nothing was found."
        return _answer(request, shown, lambda: services.keep_watching(**stated), sentence)
    asked = {"answer": RequestKind(said["answer"]), "trade_ids": said["trade_ids"]}
    sentence = "Taken. The exchange is asked first; what came of it shows here in a few seconds."
    return _answer(request, shown, lambda: services.ask_review(**stated, **asked), sentence)


@never_cache
@require_safe
def positions(request: HttpRequest) -> HttpResponse:
    """What is held, purchase by purchase, and what the account was worth over a period."""
    period = request.GET.get("period", "24h")
    context = {
        "here": "positions",
        "panels": ("positions", f"equity:{period}", "lots"),
        "periods": selectors.CURVE_PERIODS,
        "period": period,
    }
    return render(request, "execution/positions_page.html", context)


@never_cache
@require_safe
def reconciliation(request: HttpRequest) -> HttpResponse:
    """Whether our books agree with the exchange's."""
    keys = ("reconciliation.verdict", "reconciliation.figures", "reconciliation", "reconciliation.runs")
    context = {"here": "reconciliation", "panels": keys, "may_compare": may(request.user, Deed.COMPARE)}
    return render(request, "execution/reconciliation_page.html", context)


@never_cache
@require_safe
def reconciliation_run(request: HttpRequest, run_id: int) -> HttpResponse:
    """One run."""
    if not ReconciliationRun.objects.filter(environment=selectors.ENVIRONMENT, pk=run_id).exists():
        raise Http404
    context = {"here": "reconciliation", "panels": (f"reconciliation.run:{run_id}",), "run_id": run_id}
    return render(request, "execution/run_page.html", context)


@never_cache
@require_POST
@needs(Deed.COMPARE)
def reconcile_now(request: HttpRequest) -> HttpResponse:
    """Ask for a reconciliation."""
    services.request_reconciliation(trigger=f"by {request.user.get_username()}", now=clock.now())
    shown = commands.Shown(
        keys=("reconciliation.verdict", "reconciliation.runs"), page=reverse("reconciliation")
    )
    sentence = "Asked for. The run appears in the list within a few seconds."
    return commands.done(request, shown, sentence=sentence)


@never_cache
@require_safe
def divergence(request: HttpRequest, divergence_id: int) -> HttpResponse:
    """One divergence: both records, its age, what may be done or what was."""
    _divergence(divergence_id)
    context = {
        "here": "reconciliation",
        "panels": (f"divergence:{divergence_id}",),
        "divergence_id": divergence_id,
    }
    return render(request, "execution/divergence_page.html", context)


@never_cache
@require_POST
def settle(request: HttpRequest, divergence_id: int) -> HttpResponse:
    """A person's decision on a divergence: version and reason."""
    _divergence(divergence_id)
    form = SettleForm(request.POST)
    shown = commands.Shown(
        keys=(f"divergence:{divergence_id}",), page=reverse("divergence", args=[divergence_id])
    )
    if not may(request.user, Deed.SETTLE):
        return _not_allowed(request, shown)
    if not form.is_valid():
        return commands.refused(request, shown, sentence=_first_error(form), status=422)
    said = form.cleaned_data
    stated = {
        "divergence_id": divergence_id,
        "version": said["version"],
        "reason": said["reason"],
        "actor": request.user.get_username(),
        "now": clock.now(),
    }
    if said["decision"] in set(Decision):
        decision = Decision(said["decision"])
        sentence = (
            "Ignored, with your reason." if decision is Decision.IGNORE else "Adopted; compared again now."
        )
        return _answer(
            request, shown, lambda: services.settle_divergence(**stated, decision=decision), sentence
        )
    kind = RequestKind(said["decision"])
    sentence = "Taken. The exchange is asked; what came of it shows here in a few seconds."
    return _answer(request, shown, lambda: services.ask_settlement(**stated, kind=kind), sentence)


@never_cache
@require_safe
def divergences_csv(request: HttpRequest) -> HttpResponse:
    """All divergences as a file, the newest first; no cell can be taken for a formula."""
    answer = HttpResponse(
        reporting.csv_of(selectors.all_divergences()), content_type="text/csv; charset=utf-8"
    )
    name = f"divergences-{selectors.ENVIRONMENT}-{clock.now():%Y%m%d-%H%M%S}.csv"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


# --- the parts ------------------------------------------------------------------------------------------


def _order(order_id: UUID) -> Order:
    found = Order.objects.filter(environment=selectors.ENVIRONMENT, pk=order_id).first()
    if found is None:
        raise Http404
    return found


def _divergence(divergence_id: int) -> Divergence:
    found = Divergence.objects.filter(environment=selectors.ENVIRONMENT, pk=divergence_id).first()
    if found is None:
        raise Http404
    return found


def _ask(
    request: HttpRequest,
    shown: commands.Shown,
    form_class: type[Form],
    ask: Callable[..., object],
    sentence: str,
) -> HttpResponse:
    """Hand what the form says to a service that takes its fields by their names."""
    form = form_class(request.POST)
    if not form.is_valid():
        return commands.refused(request, shown, sentence=_first_error(form), status=422)
    said, actor = form.cleaned_data, request.user.get_username()
    return _answer(request, shown, lambda: ask(**said, actor=actor, now=clock.now()), sentence)


def _answer(
    request: HttpRequest, shown: commands.Shown, act: Callable[[], object], sentence: str
) -> HttpResponse:
    try:
        act()
    except AnswerRefused as refusal:
        return commands.refused(request, shown, sentence=refusal.detail, status=409)
    return commands.done(request, shown, sentence=sentence)


def _not_allowed(request: HttpRequest, shown: commands.Shown) -> HttpResponse:
    sentence = "Nothing was done: your account may look, and not decide. Ask for the role operator."
    return commands.refused(request, shown, sentence=sentence, status=409)


def _first_error(form: Form) -> str:
    sentences = {
        "reason": "say why, in at most 300 characters.",
        "price": "the price must be a plain number.",
        "trade_ids": "trade ids are whole numbers, divided by commas.",
    }
    name = next(iter(form.errors))
    return f"Nothing was done: {sentences.get(name, 'the page did not say what was shown. Reload it.')}"
