"""Folders and small files of the launcher: where servers live, sockets, secrets, the lock."""

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from tradingbot.launcher.errors import LauncherError
from tradingbot.launcher.processes import Account, as_account

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
SOCKET_PATH_BYTES_MAX = 103
ACCOUNT_NAME = "tradingbot-postgres"
SYSTEM_STATE = Path("/var/lib")


def make_private(folder: Path, account: Account | None = None) -> Path:
    """Create `folder` for its owner alone (0700) and hand it to `account`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise LauncherError(f"{folder} cannot be created: {error.strerror}.") from error
    return folder


def write_secret(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner only; the file appears whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)


def lock(path: Path, *, inheritable: bool = False) -> int | None:
    """Take the flock of `path` and answer its file descriptor, or None when another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.set_inheritable(handle, inheritable)
    return handle


def socket_folder(home: Path, socket_name: str, account: Account | None = None) -> Path:
    """Where the socket of the server in `home` goes: there, or in a short private folder if too deep."""
    if len(os.fsencode(home / socket_name)) <= SOCKET_PATH_BYTES_MAX:
        return home
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # The runtime folder is its user's alone, so a server under another account cannot enter it.
    base = Path(runtime) if runtime and account is None and os.access(runtime, os.W_OK) else Path("/tmp")  # noqa: S108
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    folder = make_private(base / f"tradingbot-{digest}", account)
    seen = folder.lstat()
    owner = os.getuid() if account is None else account.uid
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != owner or stat.S_IMODE(seen.st_mode) != 0o700:
        raise LauncherError(f"{folder} is not ours alone: remove it, or move the project to a shorter path.")
    return folder


def server_account() -> Account | None:
    """The account PostgreSQL runs as: our own (None), or a system user of its own when we are root.

    PostgreSQL refuses root. `nobody` would do, but whatever else runs as nobody could then read the books.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        _create_account()
        entry = pwd.getpwnam(ACCOUNT_NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_account() -> None:
    command = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if command is None:
        raise LauncherError(
            "PostgreSQL does not run as root and there is no useradd here to make a user for it: "
            "run as an ordinary user, or set DATABASE_URL."
        )
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    made = subprocess.run(
        [command, *options, "--shell", "/usr/sbin/nologin", ACCOUNT_NAME],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode not in {0, 9}:  # 9: it exists; another launcher was quicker
        raise LauncherError(
            f"The system user {ACCOUNT_NAME} cannot be made ({made.stderr.strip()}): "
            "run as an ordinary user, or set DATABASE_URL."
        )
    print(f"made the system user {ACCOUNT_NAME}: PostgreSQL does not run as root", file=sys.stderr)


def can_enter(folder: Path, account: Account | None) -> bool:
    """Whether `account` can reach `folder`, tried rather than worked out from the modes of its parents."""
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]
    try:
        tried = subprocess.run(command, capture_output=True, check=False, **as_account(account))
    except OSError as error:
        raise LauncherError(
            f"PostgreSQL does not run as root, and this root may not become another user ({error.strerror}): "
            "run as an ordinary user, or set DATABASE_URL."
        ) from error
    return tried.returncode == 0


def postgres_home(base: Path, account: Account | None) -> Path:
    """The folder of the PostgreSQL of data folder `base`: `base`/postgres wherever the server can get there.

    A root whose project lies in a closed folder (/root) gets /var/lib/tradingbot-ID instead, opened to nobody
    but the server's account; ID is noted in `base`/postgres.location. Parents' modes are never touched.
    """
    note = base / "postgres.location"
    if note.exists():
        return Path(note.read_text(encoding="utf-8").strip())
    if account is None or can_enter(base, account):
        return base / "postgres"
    elsewhere = SYSTEM_STATE / f"tradingbot-{secrets.token_hex(6)}"
    note.write_text(f"{elsewhere}\n", encoding="utf-8")
    return elsewhere


def throwaway_folder(account: Account | None) -> Path:
    """A fresh temporary folder that `account` can pass through; the caller removes it."""
    chosen = Path(tempfile.gettempdir())
    base = chosen if can_enter(chosen, account) else Path("/tmp")  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="tradingbot-", dir=base))
    if account is not None:
        folder.chmod(0o711)
    return folder
