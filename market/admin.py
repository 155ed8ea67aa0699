"""Market data in the admin, to look at only: it is the exchange's, not ours to edit."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from market.models import CandleHole, FeedAttempt, FeedSession, Instrument


class _ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Instrument)
class InstrumentAdmin(_ReadOnly):
    """Symbols with their status and filters."""

    list_display = ("symbol", "environment", "status", "base_asset", "quote_asset", "refreshed_at")
    list_filter = ("environment", "status")
    search_fields = ("symbol",)


@admin.register(FeedSession)
class FeedSessionAdmin(_ReadOnly):
    """Connections of the streams with the reasons of their ends."""

    list_display = ("stream", "environment", "connected_at", "resynced_at", "ended_at", "end_reason")
    list_filter = ("environment", "stream")
    date_hierarchy = "connected_at"


@admin.register(FeedAttempt)
class FeedAttemptAdmin(_ReadOnly):
    """Connections that could not be made."""

    list_display = ("stream", "environment", "at", "reason")
    list_filter = ("environment", "stream")
    date_hierarchy = "at"


@admin.register(CandleHole)
class CandleHoleAdmin(_ReadOnly):
    """Minutes without a candle."""

    list_display = ("symbol", "environment", "start", "end", "reason", "found_at", "filled_at")
    list_filter = ("environment", "symbol", "reason")
    date_hierarchy = "start"
