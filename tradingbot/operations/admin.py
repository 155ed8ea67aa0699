"""The back office of the ground floor: audit log, alerts, heartbeats and leases, all read-only."""

from django.contrib import admin

from tradingbot.core.admin import ReadOnlyAdmin
from tradingbot.core.models import Alert, AuditRecord, Heartbeat, Lease

admin.site.site_header = "tradingbot"
admin.site.site_title = "tradingbot"
admin.site.index_title = "Back office"


@admin.register(AuditRecord)
class AuditRecordAdmin(ReadOnlyAdmin):
    """The hash chain, newest link first."""

    list_display = ("sequence", "at", "actor", "action", "subject")
    list_filter = ("action", "actor")
    search_fields = ("subject",)
    ordering = ("-id",)
    exclude = ("previous_hash", "hash")
    show_full_result_count = False


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Alerts, open and closed. They are acknowledged on their own page."""

    list_display = ("last_seen_at", "severity", "title", "count", "acknowledged_by", "resolved_at")
    list_filter = ("severity", "kind")
    ordering = ("-last_seen_at",)
    show_full_result_count = False


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """When each part last worked."""

    list_display = ("part", "beat_at", "detail")
    ordering = ("part",)


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    """Who holds which right."""

    list_display = ("name", "holder", "fence", "expires_at")
    ordering = ("name",)
