"""The roles as Django groups, made again after every migration so that they always hold what is written here."""

from typing import Any

from django.contrib.auth.models import Group, Permission

from tradingbot.core.permissions import PERMISSIONS, Deed

# Group -> permissions as `app_label.codename`. What a deed needs is written in tradingbot.core.permissions.
VIEW = (
    "core.view_alert",
    "core.view_alertchannel",
    "core.view_alertsilence",
    "core.view_auditrecord",
    "core.view_heartbeat",
    "risk.view_risklimits",
    "risk.view_limitsrequest",
    "risk.view_tradingcontrol",
    "risk.view_assessment",
    "risk.view_kill",
    "proposals.view_proposal",
    "proposals.view_decision",
    "execution.view_order",
    "execution.view_fill",
    "execution.view_position",
    "execution.view_divergence",
    "execution.view_reconciliationrun",
)
BOOKS = (Deed.OPERATE, Deed.RESOLVE, Deed.SETTLE, Deed.COMPARE)
ALERTS = (Deed.ACKNOWLEDGE, Deed.SILENCE, Deed.TEST_CHANNEL)
DEEDS: dict[str, tuple[Deed, ...]] = {
    "viewer": (),
    "operator": (
        Deed.APPROVE,
        Deed.REDUCE,
        Deed.REJECT,
        Deed.REPLACE,
        Deed.ASK,
        Deed.HALT,
        *BOOKS,
        *ALERTS,
    ),
    "risk_manager": (
        Deed.HALT,
        *BOOKS,
        Deed.SWITCH,
        Deed.SET_LIMITS,
        Deed.CONFIRM_LIMITS,
        Deed.SET_CHANNELS,
        *ALERTS,
    ),
}
ROLES: dict[str, tuple[str, ...]] = {
    role: (*VIEW, *dict.fromkeys(PERMISSIONS[deed] for deed in deeds)) for role, deeds in DEEDS.items()
}


def ensure_roles(**_: Any) -> None:
    """Make the groups and give them their permissions (a `post_migrate` receiver)."""
    for role, names in ROLES.items():
        group, _created = Group.objects.get_or_create(name=role)
        found = [
            permission
            for permission in Permission.objects.select_related("content_type")
            if f"{permission.content_type.app_label}.{permission.codename}" in names
        ]
        group.permissions.set(found)
