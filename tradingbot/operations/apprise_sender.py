"""One message through any service that Apprise knows (mail, Telegram, ntfy, Slack, a webhook).

Imported where it is used only: it costs a quarter of a second and 8 MB in each process that does.
"""

import logging
from itertools import islice
from urllib.parse import unquote, urlsplit

import apprise
from django.conf import settings

from tradingbot.core.logs import REDACTED, redact, register_secret
from tradingbot.operations.senders import BODY_LENGTH_MAX, Message, NotDelivered

SECONDS_MAX = 25  # for one message, whatever the service's own limits are
_LEVELS = {
    "critical": apprise.NotifyType.FAILURE,
    "high": apprise.NotifyType.WARNING,
    "info": apprise.NotifyType.INFO,
}
# What it says of a failure goes to the receipt, without the address; to our own log nothing of it goes.
_LOG = logging.getLogger("apprise")
_LOG.setLevel(logging.WARNING)
_LOG.propagate = False
_LOG.addHandler(logging.NullHandler())


def service_of(address: str) -> str:
    """What may be shown of an Apprise address: the name of its service; raises NotDelivered for no service."""
    found = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if found is None:
        raise NotDelivered("Apprise knows no service with such an address.")
    return str(found.service_name or urlsplit(address).scheme)[:60]


def send(address: str, message: Message) -> None:
    """Through any service that Apprise knows; raises NotDelivered."""
    secrets = _remember_secrets(address)
    asset = apprise.AppriseAsset(
        app_id="tradingbot", app_desc="tradingbot alerts", app_url=settings.PUBLIC_URL, async_mode=False
    )
    courier = apprise.Apprise(asset=asset)
    try:
        if not courier.add(address):
            raise NotDelivered("Apprise cannot read the address any more: enter it again in the admin.")
        result = courier.notify(
            title=message.title,
            body=f"{message.body[:BODY_LENGTH_MAX]}\n\n{settings.PUBLIC_URL}{message.path}",
            notify_type=_LEVELS[message.severity],
            body_format=apprise.NotifyFormat.TEXT,
            timeout=SECONDS_MAX,
        )
    except apprise.exception.AppriseException as error:
        raise NotDelivered(f"the service's plug-in failed ({type(error).__name__})") from None
    if not result:
        said = "; ".join(entry.message for entry in islice(result.logs(), 3))
        raise NotDelivered(_without(secrets, said or f"the service did not take it ({result.status.name})"))


def _remember_secrets(address: str) -> list[str]:
    """The parts of an address that nobody may read, longest first; logs leave out all of some length."""
    parts = urlsplit(address)
    found = {address, parts.netloc, parts.query, parts.path.strip("/"), *parts.path.split("/")}
    for piece in (*parts.netloc.replace("@", ":").split(":"), *parts.query.replace("=", "&").split("&")):
        found |= {piece, unquote(piece)}
    register_secret(address)
    return sorted((piece for piece in found if len(piece) >= 4), key=len, reverse=True)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return redact(text)
