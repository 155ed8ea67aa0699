"""/livez: this process answers. /readyz: every part is ready for work. For the launcher and monitors."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tradingbot.core import clock
from tradingbot.operations import selectors


@login_not_required
@never_cache
@require_safe
def livez(request: HttpRequest) -> JsonResponse:
    """200 as long as the web server answers; asks no other part."""
    return JsonResponse({"ok": True})


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when all parts are ready, else 503; both with each part's state in words."""
    ok, parts = selectors.readiness(clock.now())
    return JsonResponse({"ok": ok, "parts": parts}, status=200 if ok else 503)
