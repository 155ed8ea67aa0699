"""The private PostgreSQL and Redis by themselves: real servers, really killed."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.launcher.conftest import eventually, is_gone
from tradingbot.launcher import places, postgres_server, processes, redis_server
from tradingbot.launcher.errors import LauncherError, StopRequested
from tradingbot.launcher.postgres_server import PostgresServer
from tradingbot.launcher.redis_server import RedisServer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about a launcher that runs as root")


@pytest.fixture
def started() -> Iterator[list[processes.Child]]:
    """Children that a test started; all are stopped at its end."""
    children: list[processes.Child] = []
    yield children
    processes.stop(children, 4)


@pytest.fixture
def postgres(base: Path, started: list[processes.Child]) -> PostgresServer:
    server = PostgresServer(base, base / "postgres.log")
    started.append(server.start())
    return server


def execute(server: PostgresServer, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_postgres_gives_the_product_an_ordinary_role_in_its_own_database(postgres: PostgresServer) -> None:
    rows = execute(
        postgres, "SELECT rolname, rolsuper, current_database() FROM pg_roles WHERE rolname = current_user"
    )

    assert rows == [("tradingbot", False, "tradingbot")]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", ""), ("server_encoding", "UTF8")],
)
def test_postgres_is_durable_and_off_the_network(postgres: PostgresServer, setting: str, value: str) -> None:
    assert execute(postgres, f"SHOW {setting}") == [(value,)]


def test_postgres_socket_is_closed_to_other_accounts(postgres: PostgresServer) -> None:
    assert postgres.sockets.stat().st_mode & 0o777 == 0o700


def test_killed_postgres_starts_again_with_every_committed_row(
    postgres: PostgresServer, started: list[processes.Child]
) -> None:
    execute(postgres, "CREATE TABLE kept AS SELECT generate_series(1, 100) AS value")
    os.kill(started[0].pid, signal.SIGKILL)
    started[0].popen.wait()

    started.append(postgres.start())

    assert execute(postgres, "SELECT count(*) FROM kept") == [(100,)]


def test_orphaned_postgres_of_the_same_folder_is_stopped_first(
    base: Path, postgres: PostgresServer, started: list[processes.Child]
) -> None:
    again = PostgresServer(base, base / "postgres.log")

    started.append(again.start())

    assert started[0].popen.wait(timeout=10) == 0
    assert execute(again, "SELECT 1") == [(1,)]


def test_postgres_starts_over_a_pid_file_that_names_some_other_process(
    postgres: PostgresServer, started: list[processes.Child]
) -> None:
    processes.stop(started, 4)
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")

    started.append(postgres.start())

    assert execute(postgres, "SELECT 1") == [(1,)]


def test_interrupted_initdb_is_begun_anew(base: Path, started: list[processes.Child]) -> None:
    server = PostgresServer(base, base / "postgres.log")
    (server.home / "data.new").mkdir()
    (server.home / "data.new" / "PG_VERSION").write_text("18\n")

    started.append(server.start())

    assert execute(server, "SELECT 1") == [(1,)]


def test_interrupted_start_leaves_no_postgres_behind(base: Path) -> None:
    def interrupt(_: float) -> None:
        raise StopRequested

    server = PostgresServer(base, base / "postgres.log", pause=interrupt)

    with pytest.raises(StopRequested):
        server.start()

    assert server.child is not None
    assert is_gone(server.child.pid)


def test_too_deep_folder_gets_short_private_sockets_and_both_servers_answer(
    base: Path, started: list[processes.Child]
) -> None:
    deep = base / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    own_postgres, own_redis = PostgresServer(deep, base / "p.log"), RedisServer(deep, base / "r.log")

    started += [own_postgres.start(), own_redis.start()]

    assert execute(own_postgres, "SELECT 1") == [(1,)]
    assert redis.Redis.from_url(own_redis.url).ping()
    for folder in {own_postgres.sockets, own_redis.socket.parent}:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert deep not in folder.parents
        shutil.rmtree(folder)


def test_short_socket_folder_that_belongs_to_someone_else_is_refused(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    deep = base / ("d" * 120)
    found = places.socket_folder(deep, "redis.sock")
    found.rmdir()
    found.symlink_to(base)

    with pytest.raises(LauncherError, match="is not ours alone"):
        places.socket_folder(deep, "redis.sock")


def test_data_of_an_absent_postgres_version_is_refused_with_both_versions(base: Path) -> None:
    (base / "PG_VERSION").write_text("9\n")

    with pytest.raises(LauncherError, match=r"made by PostgreSQL 9 and only .*18"):
        postgres_server.find_binaries(base, None)


def test_no_postgres_anywhere_is_one_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_server, "_candidate_folders", list)

    with pytest.raises(LauncherError, match="Install PostgreSQL, or set DATABASE_URL"):
        postgres_server.find_binaries(base, None)


def test_no_redis_anywhere_is_one_line(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(base))

    with pytest.raises(LauncherError, match="apt-get install redis-server"):
        redis_server.find_binary()


def test_postgres_on_the_path_is_found_through_its_symlink(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = base / "real"
    real.mkdir()
    for name in ("postgres", "initdb"):
        (real / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 15.4'\n")
        (real / name).chmod(0o755)
    (base / "postgres").symlink_to(real / "postgres")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(base), prepend=os.pathsep)

    found = postgres_server.find_binaries(base / "data", None)

    assert (found.folder, found.version) == (real, "15.4")


def test_killed_redis_starts_again_with_what_its_file_holds(
    base: Path, started: list[processes.Child]
) -> None:
    server = RedisServer(base, base / "redis.log")
    started.append(server.start())
    client = redis.Redis.from_url(server.url)
    client.set("kept", "1")
    eventually(lambda: b"kept" in (server.home / "appendonly.aof").read_bytes(), "the key in the file")
    os.kill(started[0].pid, signal.SIGKILL)

    started.append(server.start())

    assert client.get("kept") == b"1"


def test_second_redis_over_one_folder_is_refused(base: Path, started: list[processes.Child]) -> None:
    started.append(RedisServer(base, base / "redis.log").start())
    second = RedisServer(base, base / "redis.log", lock_seconds_max=0)

    with pytest.raises(LauncherError, match="Another Redis still uses"):
        second.start()

    assert started[0].is_running()


@as_root
def test_root_runs_postgres_as_an_unprivileged_account(
    started: list[processes.Child], postgres: PostgresServer
) -> None:
    assert Path(f"/proc/{started[0].pid}").stat().st_uid == postgres.home.stat().st_uid != 0


@as_root
def test_root_in_a_closed_folder_keeps_the_data_where_the_account_can_reach_it(
    base: Path, started: list[processes.Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, closed = base / "state", base / "closed"
    state.mkdir(mode=0o755)
    (closed / "data").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setattr(places, "SYSTEM_STATE", state)

    server = PostgresServer(closed / "data", base / "postgres.log")
    started.append(server.start())

    assert server.home.parent == state
    assert PostgresServer(closed / "data", base / "postgres.log").home == server.home
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_with_programs_in_a_closed_folder_runs_a_reachable_copy(
    base: Path, started: list[processes.Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = base / "closed"
    wheel = next(f for f in postgres_server._candidate_folders() if f.parent.name == "pginstall18")
    package = wheel.parent.parent
    shutil.copytree(wheel.parent, closed / package.name / wheel.parent.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    closed.chmod(0o700)
    state = base / "state"
    state.mkdir(mode=0o755)
    monkeypatch.setattr(places, "SYSTEM_STATE", state)
    monkeypatch.setattr(
        postgres_server, "_candidate_folders", lambda: [closed / package.name / wheel.parent.name / "bin"]
    )

    server = PostgresServer(base, base / "postgres.log")
    started.append(server.start())

    assert state in server.binaries.folder.parents
    assert execute(server, "SELECT 1") == [(1,)]
