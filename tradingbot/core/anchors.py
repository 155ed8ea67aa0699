"""Daily anchors of the audit chain: its head, in a file a day, outside of the database.

Whoever may rewrite the database can forge a whole chain that verifies; not one that verifies against files
which were copied away before. Each anchor names the SHA-256 of the one before it, is written whole and once,
and is never opened for writing again. Before means written before, not of an earlier day: a clock may jump
ahead and come back.
"""

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.models import AuditHead, AuditRecord

_MODE = 0o400


class AnchorBroken(Exception):
    """An anchor and the chain, or the anchor before it, do not agree; the text names the first place."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The chain's end at an instant; `previous` is the SHA-256 of the file before it, empty for the first."""

    name: str
    at: str
    sequence: int
    hash: str
    previous: str
    digest: str


def write_anchor(*, folder: Path, now: datetime) -> Path | None:
    """Anchor today's head; None when today has its anchor or nothing is audited yet. Raises OSError."""
    target = folder / f"{now:%Y-%m-%d}.json"
    head = AuditHead.objects.first()
    if target.exists() or head is None or head.sequence == 0:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = canonical_json(
        {
            "at": now,
            "sequence": head.sequence,
            "hash": bytes(head.hash).hex(),
            "links": AuditRecord.objects.filter(sequence__lte=head.sequence).count(),
            "previous": _end_of(folder),
        }
    )
    return target if _write_once(target, text + "\n") else None


def verify(folder: Path) -> list[Anchor]:
    """The anchors as they were written, each held against the chain and the one before it; raises AnchorBroken."""
    found: list[Anchor] = []
    left = [_read(path) for path in _files(folder)]
    while left:
        last = found[-1] if found else None
        anchor = next((each for each in left if each.previous == (last.digest if last else "")), None)
        if anchor is None:
            raise AnchorBroken(f"anchor {left[0].name} does not follow {last.name if last else 'none'}: "
                               "one was changed or is missing")  # fmt: skip
        left.remove(anchor)
        link = AuditRecord.objects.filter(sequence=anchor.sequence).values_list("hash", flat=True).first()
        since = last.sequence + 1 if last else 1
        if link is None:
            raise AnchorBroken(
                f"link {anchor.sequence} is missing, which anchor {anchor.name} holds: "
                f"the chain was cut short after link {since - 1} or later"
            )
        if bytes(link).hex() != anchor.hash:
            raise AnchorBroken(
                f"link {anchor.sequence} is not the one of anchor {anchor.name}: "
                f"the chain was written anew from one of the links {since} to {anchor.sequence}"
            )
        found.append(anchor)
    return found


def _end_of(folder: Path) -> str:
    """The SHA-256 of the anchor that no other follows; of several, which are a fault, that of the latest day."""
    texts = [path.read_bytes() for path in _files(folder)]
    followed = {_previous_of(text) for text in texts}
    ends = [digest for text in texts if (digest := sha256_hex(text)) not in followed]
    return ends[-1] if ends else ""


def _previous_of(text: bytes) -> str:
    """Empty for what is no anchor: a file that was spoilt must not hold up those to come."""
    try:
        return str(json.loads(text)["previous"])
    except (ValueError, KeyError, TypeError):
        return ""


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("????-??-??.json"))


def _read(path: Path) -> Anchor:
    try:
        raw = path.read_bytes()
        stated = json.loads(raw)
        return Anchor(
            name=path.name,
            at=str(stated["at"]),
            sequence=int(stated["sequence"]),
            hash=str(stated["hash"]),
            previous=str(stated["previous"]),
            digest=sha256_hex(raw),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnchorBroken(f"anchor {path.name} cannot be read: {type(error).__name__}") from None


def _write_once(target: Path, text: str) -> bool:
    """The file appears whole or not at all, and what is there stays; False when another was quicker."""
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, target)
            _flush_folder(target.parent)
            return True
    finally:
        fresh.unlink(missing_ok=True)
    return False


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
