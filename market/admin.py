"""Market data in the admin, to look at only: it is the exchange's, not ours to edit."""

from django.contrib import admin

from market.models import CandleHole, FeedAttempt, FeedSession, Instrument
from tradingbot.core.admin import ReadOnlyAdmin


@admin.register(Instrument)
class InstrumentAdmin(ReadOnlyAdmin):
    """Symbols with their status and filters."""

    list_display = ("symbol", "environment", "status", "base_asset", "quote_asset", "refreshed_at")
    list_filter = ("environment", "status")
    search_fields = ("symbol",)


@admin.register(FeedSession)
class FeedSessionAdmin(ReadOnlyAdmin):
    """Connections of the streams with the reasons of their ends."""

    list_display = ("stream", "environment", "connected_at", "resynced_at", "ended_at", "end_reason")
    list_filter = ("environment", "stream")
    date_hierarchy = "connected_at"


@admin.register(FeedAttempt)
class FeedAttemptAdmin(ReadOnlyAdmin):
    """Connections that could not be made."""

    list_display = ("stream", "environment", "at", "reason")
    list_filter = ("environment", "stream")
    date_hierarchy = "at"


@admin.register(CandleHole)
class CandleHoleAdmin(ReadOnlyAdmin):
    """Minutes without a candle."""

    list_display = ("symbol", "environment", "start", "end", "reason", "found_at", "filled_at")
    list_filter = ("environment", "symbol", "reason")
    date_hierarchy = "start"
