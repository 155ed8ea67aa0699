"""Pages and commands of execution."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from execution import selectors, services
from execution.forms import ApproveForm
from execution.models import Order, ReconciliationRun
from proposals import selectors as proposals
from proposals.contracts import DecisionRefused
from tradingbot.core import clock, commands, panels


@never_cache
@require_POST
def approve(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """Approve exactly what was shown: the form carries its version and digest (invariant 13)."""
    if not proposals.proposals().filter(pk=proposal_id).exists():
        raise Http404
    form = ApproveForm(request.POST)
    shown = commands.Shown(
        keys=(f"decision:{proposal_id}", f"order.fate:{proposal_id}", "badge:pending"),
        page=reverse("proposal", args=[proposal_id]),
    )
    if not form.is_valid():
        sentence = "Not approved: the form does not say which version and digest was shown. Reload the page."
        return commands.refused(request, shown, sentence=sentence, status=422)
    try:
        services.approve_proposal(
            proposal_id=proposal_id,
            version=form.cleaned_data["version"],
            digest=form.cleaned_data["digest"],
            actor=request.user.get_username(),
            now=clock.now(),
        )
    except DecisionRefused as error:
        return commands.refused(request, shown, sentence=error.detail, status=409)
    sentence = "Approved. The gate judges it once more, then it is sent; its fate appears below."
    return commands.done(request, shown, sentence=sentence)


@never_cache
@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    """All orders, newest first."""
    context = {"here": "orders", "panels": (f"orders:{request.GET.get('page', '1')}",)}
    try:
        return render(request, "execution/orders_page.html", context)
    except panels.UnknownPanel as error:
        raise Http404 from error


@never_cache
@require_safe
def order(request: HttpRequest, order_id: UUID) -> HttpResponse:
    """One order with its timeline."""
    found = Order.objects.filter(environment=selectors.ENVIRONMENT, pk=order_id).first()
    if found is None:
        raise Http404
    context = {"here": "orders", "panels": (f"order:{order_id}",), "order": found}
    return render(request, "execution/order_page.html", context)


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
    try:
        return render(request, "execution/positions_page.html", context)
    except panels.UnknownPanel as error:
        raise Http404 from error


@never_cache
@require_safe
def reconciliation(request: HttpRequest) -> HttpResponse:
    """Whether our books agree with the exchange's."""
    keys = ("reconciliation.verdict", "reconciliation", "reconciliation.runs")
    return render(request, "execution/reconciliation_page.html", {"here": "reconciliation", "panels": keys})


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
def reconcile_now(request: HttpRequest) -> HttpResponse:
    """Ask for a reconciliation."""
    services.request_reconciliation(trigger=f"by {request.user.get_username()}", now=clock.now())
    shown = commands.Shown(
        keys=("reconciliation.verdict", "reconciliation.runs"), page=reverse("reconciliation")
    )
    sentence = "Asked for. The run appears in the list within a few seconds."
    return commands.done(request, shown, sentence=sentence)
