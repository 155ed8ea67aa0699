"""Market data in the admin, to look at only: it is the exchange's, not ours to edit."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from market.models import FeedSession, Instrument


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
