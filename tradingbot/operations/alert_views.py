"""The page of the alerts: seen, silenced, and who is told of them. Nothing here answers a proposal."""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from tradingbot.core import alerts as alert_services
from tradingbot.core import clock, commands, silences
from tradingbot.core.models import Alert
from tradingbot.core.permissions import Deed, needs
from tradingbot.operations import channels, senders
from tradingbot.operations.forms import DeviceForm, SilenceForm

PANELS = ("alerts", "alerts.channels", "alerts.silences", "alerts.closed")
_SERVICE_WORKER = Path(settings.BASE_DIR) / "static" / "sw.js"


@never_cache
@require_safe
def alerts(request: HttpRequest) -> HttpResponse:
    """Open alerts, critical first, who is told of them, and those closed lately."""
    shown = {"here": "alerts", "panels": PANELS, "push_key": senders.public_key()}
    return render(request, "operations/alerts.html", shown)


@never_cache
@login_not_required
@require_safe
def service_worker(request: HttpRequest) -> HttpResponse:
    """The service worker, from the root so that it may answer for every page; it holds nothing private."""
    return HttpResponse(_SERVICE_WORKER.read_bytes(), content_type="text/javascript; charset=utf-8")


@never_cache
@require_POST
@needs(Deed.ACKNOWLEDGE)
def acknowledge(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Mark an alert as seen."""
    if not Alert.objects.filter(pk=alert_id).exists():
        raise Http404
    taken = alert_services.acknowledge_alert(alert_id=alert_id, actor=_actor(request), now=clock.now())
    if taken:
        return commands.done(request, _shown("alerts", "badge:alerts"), sentence="Acknowledged.")
    sentence = "Somebody acknowledged this alert before you, or it is closed. The list shows how it stands."
    return commands.refused(request, _shown("alerts", "badge:alerts"), sentence=sentence, status=409)


@never_cache
@require_POST
@needs(Deed.SILENCE)
def silence(request: HttpRequest, alert_id: int) -> HttpResponse:
    """Tell nobody of such alerts, of this severity, for some hours."""
    alert = get_object_or_404(Alert, pk=alert_id)
    form = SilenceForm(request.POST, prefix=str(alert_id))
    shown = _shown("alerts", "alerts.silences")
    if not form.is_valid():
        sentence = "Choose for how long, and say why: the reason is kept."
        return commands.refused(request, shown, sentence=sentence, status=422)
    is_of_subject = form.cleaned_data["covers"] == "subject" and bool(alert.subject)
    try:
        row = silences.add_silence(
            kind=alert.kind,
            severity=alert.severity,  # what becomes worse was not what the person saw
            subject=alert.subject if is_of_subject else "",
            lasts=form.lasts(),
            reason=form.cleaned_data["reason"],
            actor=_actor(request),
            now=clock.now(),
        )
    except silences.SilenceRefused as refusal:
        return commands.refused(request, shown, sentence=str(refusal), status=409)
    return commands.done(request, shown, sentence=f"Nobody is told until {row.ends_at:%Y-%m-%d %H:%M} UTC.")


@never_cache
@require_POST
@needs(Deed.SILENCE)
def end_silence(request: HttpRequest, silence_id: int) -> HttpResponse:
    """Tell people again."""
    ended = silences.end_silence(silence_id=silence_id, actor=_actor(request), now=clock.now())
    shown = _shown("alerts", "alerts.silences")
    if ended:
        return commands.done(request, shown, sentence="The silence has ended.")
    return commands.refused(request, shown, sentence="That silence had ended before.", status=409)


@never_cache
@require_POST
@needs(Deed.TEST_CHANNEL)
def test_channel(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Send a test; its receipt appears beside the channel."""
    return _channel_command(
        request,
        lambda: channels.request_test(channel_id=channel_id, actor=_actor(request), now=clock.now()),
        sentence="The test is on its way: the receipt appears beside the channel.",
    )


@never_cache
@require_POST
def add_device(request: HttpRequest) -> HttpResponse:
    """Tell this browser from now on: everybody may have his own told."""
    form = DeviceForm(request.POST)
    if not form.is_valid():
        return commands.refused(
            request, _shown("alerts.channels"), sentence="The browser gave no subscription.", status=422
        )
    return _channel_command(
        request,
        lambda: channels.subscribe_device(
            subscription=form.cleaned_data["subscription"],
            name=form.cleaned_data["name"],
            actor=_actor(request),
            now=clock.now(),
        ),
        sentence="This device is told of alerts from now on. Send it a test.",
    )


@never_cache
@require_POST
def remove_device(request: HttpRequest, channel_id: int) -> HttpResponse:
    """Tell one of your own browsers no longer."""
    actor = _actor(request)
    if not channels.remove_channel(channel_id=channel_id, actor=actor, owner=actor, now=clock.now()):
        raise Http404
    return commands.done(request, _shown("alerts.channels"), sentence="That device is told no longer.")


def _channel_command(request: HttpRequest, command: Callable[[], object], *, sentence: str) -> HttpResponse:
    try:
        command()
    except channels.ChannelRefused as refusal:
        return commands.refused(request, _shown("alerts.channels"), sentence=str(refusal), status=409)
    return commands.done(request, _shown("alerts.channels"), sentence=sentence)


def _shown(*keys: str) -> commands.Shown:
    return commands.Shown(keys=keys, page=reverse("alerts"))


def _actor(request: HttpRequest) -> str:
    return str(request.user.get_username())
