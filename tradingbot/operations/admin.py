"""The back office of the ground floor: alert channels are set here; audit log, alerts and the rest only read."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from tradingbot.core import clock
from tradingbot.core.admin import ReadOnlyAdmin
from tradingbot.core.models import (
    Alert,
    AlertChannel,
    AlertDelivery,
    AlertSilence,
    AuditRecord,
    Heartbeat,
    Lease,
)
from tradingbot.core.permissions import Deed, may
from tradingbot.operations import channels
from tradingbot.operations.forms import ChannelForm

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


@admin.register(AlertChannel)
class AlertChannelAdmin(admin.ModelAdmin):
    """Who is told, and how. An address is entered and never shown again; browsers add themselves on their page."""

    form = ChannelForm
    list_display = ("name", "service", "severity_min", "is_backup", "enabled", "owner")
    readonly_fields = ("service", "owner", "created_at", "created_by")
    actions = None

    def get_fields(self, request: HttpRequest, obj: AlertChannel | None = None) -> tuple[str, ...]:
        """A browser's address is the browser's own matter."""
        own = ("name", "severity_min", "is_backup", "enabled")
        if obj is None:
            return ("name", "address", *own[1:])
        is_service = obj.kind == AlertChannel.Kind.APPRISE
        return (*own, *(("address",) if is_service else ()), *self.readonly_fields)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may set channels."""
        return may(request.user, Deed.SET_CHANNELS)

    def has_change_permission(self, request: HttpRequest, obj: AlertChannel | None = None) -> bool:
        """Whoever may set channels."""
        return may(request.user, Deed.SET_CHANNELS)

    def has_delete_permission(self, request: HttpRequest, obj: AlertChannel | None = None) -> bool:
        """Whoever may set channels."""
        return may(request.user, Deed.SET_CHANNELS)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """A channel goes with its receipts, whoever may look at those."""
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: Any, change: bool) -> None:
        """Through the service, which puts the address away."""
        channels.save_channel(
            channel=obj,
            address=form.cleaned_data.get("address", ""),
            actor=request.user.get_username(),
            now=clock.now(),
        )

    def delete_model(self, request: HttpRequest, obj: AlertChannel) -> None:
        """Through the service, which takes the address along."""
        channels.remove_channel(channel_id=obj.pk, actor=request.user.get_username(), now=clock.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertChannel]) -> None:
        """Through the service, one by one."""
        for row in queryset:
            self.delete_model(request, row)


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(ReadOnlyAdmin):
    """The receipts of a month."""

    list_display = ("created_at", "channel", "notice", "attempts", "sent_at", "given_up_at", "last_error")
    list_filter = ("channel",)
    list_select_related = ("channel", "notice")
    ordering = ("-id",)
    show_full_result_count = False


@admin.register(AlertSilence)
class AlertSilenceAdmin(ReadOnlyAdmin):
    """Silences, running and ended. They are made and ended on the alerts page."""

    list_display = ("ends_at", "kind", "severity", "subject", "created_by", "reason")
    ordering = ("-ends_at",)


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
