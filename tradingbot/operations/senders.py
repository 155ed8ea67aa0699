"""What people are told, and how a browser is told by Web Push. Other services: `apprise_sender`."""

import json
import logging
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import requests
from django.conf import settings

from tradingbot.core.logs import register_secret
from tradingbot.operations import secret_files, webpush

logger = logging.getLogger(__name__)
REASON_LENGTH_MAX = 300
BODY_LENGTH_MAX = 900
PUSH_TIMEOUT_SECONDS = (4, 8)  # to connect, to answer
PUSH_KEPT_SECONDS = 3600  # by the push service, for a phone that is off
VAPID_KEY = "vapid-key"


class NotDelivered(Exception):
    """The channel did not take the message; the text says why and holds no part of its address.

    `gone`: the browser has unsubscribed and will never take one.
    """

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason[:REASON_LENGTH_MAX])
        self.gone = gone


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told. `path` is the page that it opens: a notification can do nothing else."""

    title: str
    body: str
    severity: str
    path: str
    tag: str


def send_by_web_push(subscription: str, message: Message, *, now: datetime) -> None:
    """To one browser, encrypted so that the push service cannot read it; raises NotDelivered."""
    try:
        found = webpush.parse_subscription(subscription)
    except webpush.MalformedSubscription as error:
        raise NotDelivered(str(error), gone=True) from None
    endpoint = found["endpoint"]
    if not is_push_service(endpoint):
        raise NotDelivered("its push service is not among PUSH_HOSTS")
    register_secret(endpoint)
    text = {"title": message.title, "body": message.body[:BODY_LENGTH_MAX], "path": message.path,
            "tag": message.tag}  # fmt: skip
    headers = {
        "Authorization": webpush.vapid_authorization(
            endpoint=endpoint, key=webpush.load_private_key(vapid_key()), contact=_contact(), now=now
        ),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(PUSH_KEPT_SECONDS),
        "Urgency": "normal" if message.severity == "info" else "high",
    }
    sealed = webpush.encrypt(_fitting(text), p256dh=found["p256dh"], auth=found["auth"])
    try:
        answer = requests.post(
            endpoint, data=sealed, headers=headers, timeout=PUSH_TIMEOUT_SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        raise NotDelivered(f"the push service cannot be reached ({type(error).__name__})") from None
    if answer.status_code in (404, 410):
        raise NotDelivered("the browser has unsubscribed", gone=True)
    if answer.status_code not in (200, 201, 202, 204):
        raise NotDelivered(f"the push service answered {answer.status_code}")


def is_push_service(endpoint: str) -> bool:
    """Whether `endpoint` is at a push service that we post to; a subscription names whatever address it likes."""
    try:
        parts = urlsplit(endpoint)
        host = (parts.hostname or "").lower()
        origin = f"{host}:{parts.port}"
    except ValueError:
        return False
    if parts.username or parts.password:
        return False
    if origin in settings.PUSH_HOSTS:  # with its port: a stand-in on this machine
        return True
    is_known = any(host == known or host.endswith(f".{known}") for known in settings.PUSH_HOSTS)
    return parts.scheme == "https" and is_known and parts.port in (None, 443)


def vapid_key() -> str:
    """The key that signs our push messages, as PEM; made when it is first asked for."""
    try:
        return secret_files.read(VAPID_KEY)
    except secret_files.SecretMissing:
        secret_files.write_once(VAPID_KEY, webpush.new_private_key())
        return secret_files.read(VAPID_KEY)


def public_key() -> str:
    """What a browser subscribes with (`applicationServerKey`); empty when the key can be neither read nor made."""
    try:
        return webpush.to_base64url(webpush.public_bytes(webpush.load_private_key(vapid_key())))
    except (OSError, ValueError, secret_files.SecretMissing) as error:
        logger.warning("the key of Web Push is not usable", extra={"error": type(error).__name__})
        return ""


def _contact() -> str:
    """Whom a push service may turn to: it wants an https page or a mail address."""
    is_page = settings.PUBLIC_URL.startswith("https://")
    return str(settings.PUBLIC_URL) if is_page else "mailto:operator@tradingbot.invalid"


def _fitting(text: dict[str, str]) -> bytes:
    """The message as JSON, its body cut until it fits: letters may take four bytes."""
    while len(sealed := json.dumps(text, ensure_ascii=False).encode()) > webpush.MESSAGE_BYTES_MAX:
        text = text | {"body": text["body"][: len(text["body"]) // 2]}
    return sealed
