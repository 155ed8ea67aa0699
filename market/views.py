"""Pages of market: the feeds, and a symbol's candles."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from market.contracts import Interval
from market.selectors import charts

FEED_PANELS = ("feed.streams", "feed.symbols", "feed.sessions", "feed.holes")


@never_cache
@require_safe
def feed(request: HttpRequest) -> HttpResponse:
    """How the streams do: ages, rates, reconnects, gaps."""
    return render(request, "market/feed_page.html", {"here": "feed", "panels": FEED_PANELS})


@never_cache
@require_safe
def candles(request: HttpRequest, symbol: str) -> HttpResponse:
    """The chart of a symbol and the same as a table."""
    interval = _interval(request, symbol)
    context = {
        "here": "feed",
        "symbol": symbol,
        "interval": interval,
        "intervals": list(Interval),
        "symbols": settings.SYMBOLS,
        "panels": (f"candles:{symbol}:{interval}",),
    }
    return render(request, "market/candles_page.html", context)


@never_cache
@require_safe
def candle_data(request: HttpRequest, symbol: str) -> JsonResponse:
    """What the chart draws."""
    return JsonResponse(charts.chart_data(charts.chart(symbol, _interval(request, symbol))))


def _interval(request: HttpRequest, symbol: str) -> Interval:
    text = request.GET.get("interval", Interval.M1)
    if symbol not in settings.SYMBOLS or text not in set(Interval):
        raise Http404
    return Interval(text)
