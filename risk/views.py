"""Commands of risk: the halt."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from risk import services
from risk.contracts import ControlRefused
from risk.forms import HaltForm
from tradingbot.core import clock, commands


@never_cache
@require_POST
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
