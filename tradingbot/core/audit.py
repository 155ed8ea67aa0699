"""The hash-chained audit log (invariant 12). Written in the transaction of the change it records."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tradingbot.core.decimals import plain
from tradingbot.core.models import AuditRecord


def _to_json(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    return str(value)


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, Decimal as plain text, UTC instants in ISO 8601."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_to_json)


def sha256_hex(text: str | bytes) -> str:
    """SHA-256 of `text` (UTF-8) in hexadecimal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def record(*, action: str, subject: str, actor: str, now: datetime, **payload: Any) -> AuditRecord:
    """Append a link. `subject` is `<kind>:<id>`; `payload` holds before/after values, never a secret."""
    body = canonical_json(
        {"at": now, "actor": actor, "action": action, "subject": subject, "payload": payload}
    )
    return AuditRecord.objects.create(at=now, actor=actor, action=action, subject=subject, body=body)


def first_broken_link() -> tuple[int, str] | None:
    """Recompute the whole chain; (sequence, what is wrong) of the first bad link, or None when it holds."""
    previous, expected = bytes(32), 1
    for link in _links():
        if link.sequence != expected:
            return expected, f"link {expected} is missing (found {link.sequence})"
        if bytes(link.previous_hash or b"") != previous:
            return expected, "previous hash does not match the link before it"
        digest = hashlib.sha256(previous + link.body.encode()).digest()
        if bytes(link.hash or b"") != digest:
            return expected, "hash does not match the body"
        if not _columns_agree(link):
            return expected, "columns differ from the hashed body"
        previous, expected = digest, expected + 1
    return None


def _columns_agree(link: AuditRecord) -> bool:
    """Whether the columns, which people search by, say what the hashed body says."""
    try:
        stated = json.loads(link.body)
        said = (datetime.fromisoformat(stated["at"]), stated["actor"], stated["action"], stated["subject"])
    except (KeyError, TypeError, ValueError):
        return False
    return said == (link.at, link.actor, link.action, link.subject)


def _links() -> Iterator[AuditRecord]:
    return AuditRecord.objects.filter(sequence__isnull=False).order_by("sequence").iterator(chunk_size=1000)


def history(subject: str) -> list[dict[str, Any]]:
    """The links of one subject, oldest first, as dictionaries with `at`, `actor`, `action`, `payload`."""
    rows = AuditRecord.objects.filter(subject=subject).order_by("id").values("at", "actor", "action", "body")
    return [
        {
            "at": r["at"],
            "actor": r["actor"],
            "action": r["action"],
            "payload": json.loads(r["body"])["payload"],
        }
        for r in rows
    ]
