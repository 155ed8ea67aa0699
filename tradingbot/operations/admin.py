"""The back office of the ground floor: alert channels are set here; audit log, alerts and the rest only read."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from tradingbot.core import audit, clock
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


admin.site.unregister([User, Group])


class _OnRecord(admin.ModelAdmin):
    """Who may do what decides whose approval counts: each change of it is a link of the audit log.

    Django calls the `log_…` hooks in the transaction of the change, before a deletion and after all else.
    """

    kind: str
    rights_of: Callable[[Any], dict[str, Any]]  # of a row: what is put on record of it, and nothing secret
    actions = None  # one by one: the stock action deletes several outside of a transaction

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """A row was made."""
        self._record(request, obj, "added")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """A row was changed, its password perhaps: the fields are named."""
        named = [field for part in message for field in part.get("changed", {}).get("fields", ())]
        self._record(request, obj, "changed", fields=named)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Rows are about to be deleted."""
        for row in queryset:
            self._record(request, row, "deleted")
        return super().log_deletions(request, queryset)

    def _record(self, request: HttpRequest, row: Any, deed: str, **more: Any) -> None:
        audit.record(
            action=f"{self.kind}.{deed}",
            subject=f"{self.kind}:{row.pk}",
            actor=request.user.get_username(),
            now=clock.now(),
            name=str(row),
            **self.rights_of(row),
            **more,
        )


def _names(permissions: QuerySet[Permission]) -> list[str]:
    found = permissions.values_list("content_type__app_label", "codename")
    return sorted(f"{app}.{name}" for app, name in found)


def _rights_of_account(row: User) -> dict[str, Any]:
    return {
        "active": row.is_active,
        "staff": row.is_staff,
        "superuser": row.is_superuser,
        "roles": sorted(row.groups.values_list("name", flat=True)),
        "permissions": _names(row.user_permissions.all()),
    }


def _rights_of_role(row: Group) -> dict[str, Any]:
    return {"permissions": _names(row.permissions.all())}


@admin.register(User)
class AccountAdmin(_OnRecord, UserAdmin):
    """Accounts and their roles."""

    kind = "account"
    rights_of = staticmethod(_rights_of_account)

    @transaction.atomic
    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """As Django's, but in one transaction with its link."""
        return super().user_change_password(request, id, form_url)


@admin.register(Group)
class RoleAdmin(_OnRecord, GroupAdmin):
    """Roles. Those of `tradingbot.operations.roles` are put back as written there by every migration."""

    kind = "role"
    rights_of = staticmethod(_rights_of_role)


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
