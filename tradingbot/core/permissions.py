"""Who may do what: the one table of deeds and permissions, asked by every view and by the admin.

Which role holds which permission is written in `tradingbot.operations.roles`; a superuser holds all.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import wraps
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse


class Deed(StrEnum):
    """What a person may be allowed to do beyond looking."""

    APPROVE = "approve"
    REDUCE = "reduce"
    REJECT = "reject"
    ASK = "ask the advisor"
    REPLACE = "replace"
    HALT = "halt"
    OPERATE = "cancel, close or flatten"
    RESOLVE = "decide on an order of unknown fate"
    SETTLE = "settle a divergence"
    COMPARE = "ask for a comparison"
    SWITCH = "switch"
    SET_LIMITS = "set limits"
    CONFIRM_LIMITS = "confirm limits"
    ACKNOWLEDGE = "acknowledge alerts"
    SILENCE = "silence alerts"
    TEST_CHANNEL = "send a test alert"
    SET_CHANNELS = "set alert channels"


PERMISSIONS: dict[Deed, str] = {
    Deed.APPROVE: "proposals.decide_proposal",
    Deed.REDUCE: "proposals.decide_proposal",
    Deed.REJECT: "proposals.decide_proposal",
    Deed.ASK: "proposals.ask_decision",
    Deed.REPLACE: "proposals.decide_proposal",  # it changes what was approved
    Deed.HALT: "risk.halt_trading",
    Deed.OPERATE: "execution.operate_order",
    Deed.RESOLVE: "execution.resolve_order",
    Deed.SETTLE: "execution.settle_divergence",
    # A comparison spends the request weight of the account, so looking alone does not allow it.
    Deed.COMPARE: "execution.add_reconciliationrequest",
    Deed.SWITCH: "risk.change_tradingcontrol",
    Deed.SET_LIMITS: "risk.add_risklimits",
    Deed.CONFIRM_LIMITS: "risk.change_limitsrequest",
    Deed.ACKNOWLEDGE: "core.change_alert",
    Deed.SILENCE: "core.add_alertsilence",
    Deed.TEST_CHANNEL: "core.test_alertchannel",
    Deed.SET_CHANNELS: "core.change_alertchannel",
}


def may(user: Any, deed: Deed) -> bool:
    """Whether `user` may do `deed` now."""
    return bool(user.has_perm(PERMISSIONS[deed]))


def who_may(names: Iterable[str], deed: Deed) -> list[str]:
    """Those of `names` whose account is active and who may do `deed` now, in their order."""
    asked = list(names)
    if not asked:
        return []
    users = get_user_model().objects.filter(username__in=asked, is_active=True)
    able = {user.get_username() for user in users if may(user, deed)}
    return [name for name in asked if name in able]


def needs(deed: Deed) -> Callable[[Callable[..., HttpResponse]], Callable[..., HttpResponse]]:
    """Refuse the decorated view with 403 to whoever may not do `deed`."""

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not may(request.user, deed):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded

    return decorate
