"""Secrets of the alert channels, one file each, for their owner's eyes only; rows hold nothing but the name."""

import contextlib
import os
import re
import secrets
from pathlib import Path

from django.conf import settings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class SecretMissing(Exception):
    """The file cannot be read; the text names it and says what to do."""


def fresh_name(kind: str) -> str:
    """A name that no file has."""
    return f"{kind}-{secrets.token_hex(8)}"


def write(name: str, text: str) -> None:
    """Keep `text` under `name`: it appears whole or not at all."""
    path = _path(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _write_beside(path, text)
    fresh.replace(path)


def write_once(name: str, text: str) -> None:
    """Like `write`, but what is there stays: of two processes that come at once one wins."""
    path = _path(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = _write_beside(path, text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()


def read(name: str) -> str:
    """The secret; raises SecretMissing."""
    path = _path(name)
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SecretMissing(
            f"The address of this channel cannot be read ({error.strerror}): enter it again in the admin."
        ) from error


def remove(name: str) -> None:
    """Forget the secret."""
    _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError("a secret's name is letters, digits and dashes")
    return Path(settings.ALERT_SECRETS_DIR) / name


def _write_beside(path: Path, text: str) -> Path:
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    return fresh
