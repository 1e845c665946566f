"""An embedded PostgreSQL: one cluster in a folder, for `make run`, the tests and the benchmark.

The folder (chosen by `postgres_home`) contains `data/`, `postgres.log` and the superuser's `password`.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import quote

from app.demo import postgres_home
from app.demo.postgres_binaries import (
    Account,
    Binaries,
    LaunchError,
    clean_environment,
    find_binaries,
    runnable_by,
    spawn_options,
)

__all__ = ["Cluster", "LaunchError", "ephemeral_cluster", "find_binaries"]

OWNER = "postgres"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0

_POLL_S = 0.02
_LOG_ROTATED_AT_BYTES = 4 << 20
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
# Commits are still written before they are confirmed, so they survive the death of any process.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
_EPHEMERAL_PREFIX = "ciris-billing-postgres-"
_MEMORY = Path("/dev/shm")
_PLENTY_BYTES = 8 << 30

_Value = TypeVar("_Value")
StopMode = Literal["smart", "fast", "immediate"]


class Cluster:
    """PostgreSQL on one data folder, which outlives the object. One launcher at a time; others get LaunchError.

    `durable=False` trades crash safety of the machine for speed: for tests only. `port=None` takes a free one at each
    start. `settings` are further server settings, which override the launcher's own.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        durable: bool = True,
        max_connections: int = 200,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
    ) -> None:
        self.state_dir = Path(os.path.realpath(state_dir))
        self.host = HOST
        self.durable = durable
        self._requested_port = port
        self._settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": str(max_connections),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %u@%d ",
            **({} if durable else _NOT_DURABLE),
            **(settings or {}),
        }
        self._binaries = binaries
        self._account: Account | None = None
        self._home: Path | None = None
        self._password: str | None = None
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Properties of a started cluster

    @property
    def port(self) -> int:
        return _known(self._port)

    @property
    def data_dir(self) -> Path:
        return _known(self._home) / "data"

    @property
    def log_file(self) -> Path:
        return _known(self._home) / "postgres.log"

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def owner_url(self, database: str = "postgres") -> str:
        """Return the URL of `database` for the superuser, with the password."""
        return self.url(OWNER, database)

    def url(self, role: str, database: str) -> str:
        """Return the URL of `database` for `role`, with the password: see `role_password`."""
        credentials = f"{quote(role, safe='')}:{quote(self.role_password(role), safe='')}"
        return f"postgresql://{credentials}@{self.host}:{self.port}/{quote(database, safe='')}"

    def role_password(self, role: str) -> str:
        """Return the password to create `role` with. Derived from the superuser's, so it is stored nowhere."""
        password = _known(self._password)
        if role == OWNER:
            return password
        return hmac.new(password.encode(), role.encode(), hashlib.sha256).hexdigest()

    # Start and stop

    def start(self) -> None:
        """Return when PostgreSQL accepts connections. Create the data folder if missing, and recover it if needed.

        Ends a postmaster that an earlier, killed launcher left running. Raise LaunchError.
        """
        if self.pid is not None:
            raise LaunchError(f"PostgreSQL already runs here (pid {self.pid}, port {self.port}).")
        try:
            with postgres_home.explained(self.state_dir):
                if self._lock is None:
                    self._lock = postgres_home.lock(self.state_dir)
                binaries = self._prepare()
                self._launch(binaries)
        except BaseException:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._release_lock()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop PostgreSQL and release the lock for other launchers. Does nothing if it does not run.

        "fast" disconnects clients and writes everything out, "smart" waits for clients to disconnect, "immediate"
        leaves recovery to the next start. After half a minute it escalates automatically.
        """
        process = self._process
        if process is not None and process.poll() is None:
            postgres_home.end_process(process.pid, lambda: process.poll() is not None, _STOP_SIGNALS[mode])
        self._process = None
        self._release_lock()

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would, and reap it. `start` recovers the data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def remove(self) -> None:
        """Stop and delete the cluster with all its data. Raise LaunchError if another launcher holds it."""
        self.stop("immediate")
        with postgres_home.explained(self.state_dir):
            self._lock = postgres_home.lock(self.state_dir)
            try:
                postgres_home.remove_home(self.state_dir)
            finally:
                self._release_lock()

    # Steps of a start, in order

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _prepare(self) -> Binaries:
        """Prepare a data folder that no other process uses. Return the programs to run on it."""
        found = self._binaries or find_binaries()
        account = self._account = postgres_home.choose_account(self.state_dir)
        home = self._home = postgres_home.choose_home(self.state_dir, account)
        binaries = runnable_by(account, found, home if account is None else postgres_home.folder_for_root())
        if self.data_dir.exists():
            self._refuse_foreign_data(binaries)
            postgres_home.end_leftover(self.data_dir)
            self._password = self._stored_password()
        else:
            self._password = self._new_password()
            self._init(binaries)
        return binaries

    def _stored_password(self) -> str:
        path = _known(self._home) / "password"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            raise LaunchError(
                f"The superuser's password, {path}, is gone. Put it back, or delete {self._home} to begin with an "
                "empty database."
            ) from None

    def _new_password(self) -> str:
        password = secrets.token_urlsafe(24)
        postgres_home.write_private(_known(self._home) / "password", password)
        return password

    def _refuse_foreign_data(self, binaries: Binaries) -> None:
        owner = self.data_dir.stat().st_uid
        runs_as = self._account.uid if self._account else os.geteuid()
        if owner != runs_as:
            raise LaunchError(
                f"{self.data_dir} belongs to uid {owner}, but PostgreSQL would run as uid {runs_as}. "
                f"Run as its owner (or root), or: chown -R {runs_as} {self.data_dir}"
            )
        made_by = (self.data_dir / "PG_VERSION").read_text().strip()
        if made_by != str(binaries.major):
            raise LaunchError(
                f"{self.data_dir} was made by PostgreSQL {made_by}, but {binaries.path} is {binaries.version}. "
                f"Set PGBIN to the programs of {made_by}, or delete {self._home} to begin with an empty database."
            )

    def _init(self, binaries: Binaries) -> None:
        """Create the data folder under another name and rename it, so that a killed `initdb` leaves no partial one."""
        home = _known(self._home)
        unfinished, password_file = home / "data.new", home / "password.initdb"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        postgres_home.write_private(password_file, _known(self._password))
        try:
            if self._account is not None:
                os.chown(unfinished, self._account.uid, self._account.gid)
                os.chown(password_file, self._account.uid, self._account.gid)
            done = subprocess.run(
                [
                    binaries.program("initdb"),
                    *("-D", str(unfinished)),
                    *("-U", OWNER),
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                    *([] if self.durable else ["--no-sync"]),
                ],
                cwd=home,
                env=clean_environment(home),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                **spawn_options(self._account),
            )
        finally:
            password_file.unlink()
        if done.returncode != 0:
            raise LaunchError(f"initdb could not create {unfinished}:\n{_tail(done.stdout)}")
        unfinished.rename(self.data_dir)

    def _launch(self, binaries: Binaries) -> None:
        """Run the postmaster until it is ready. Retry while an obstacle is temporary.

        Temporary: a port that another process took in the meantime, and processes of a killed postmaster that have not
        noticed its death yet and still hold its shared memory.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        _rotate(self.log_file)
        while True:
            self._port = self._requested_port or _free_port()
            log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._process = self._spawn(binaries)
            if self._became_ready(self._process, deadline):
                return
            with self.log_file.open("rb") as log:
                log.seek(log_start)
                output = log.read().decode(errors="replace")
            port_taken = "could not create any TCP/IP sockets" in output
            if port_taken and self._requested_port is not None:
                raise LaunchError(f"Port {self._requested_port} of {HOST} is in use. Choose another one.")
            is_temporary = port_taken or "pre-existing shared memory block" in output
            if not is_temporary or time.monotonic() > deadline:
                raise LaunchError(f"PostgreSQL did not start. Its log ({self.log_file}) says:\n{_tail(output)}")
            time.sleep(_POLL_S * 5)

    def _spawn(self, binaries: Binaries) -> subprocess.Popen[bytes]:
        home = _known(self._home)
        settings = self._settings | {"port": str(self.port)}
        with os.fdopen(os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb") as log:
            return subprocess.Popen(
                [
                    binaries.program("postgres"),
                    *("-D", str(self.data_dir)),
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                cwd=home,
                env=clean_environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Outside of the terminal's group: Ctrl-C must reach the API first, which still needs the database.
                start_new_session=True,
                **spawn_options(self._account),
            )

    def _became_ready(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        """Return True when it accepts connections, False if it ended instead. Raise LaunchError at the deadline."""
        pid_file = self.data_dir / "postmaster.pid"
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return True
            if time.monotonic() > deadline:
                raise LaunchError(f"PostgreSQL was not ready after {START_TIMEOUT_S:.0f} s. See {self.log_file}")
            time.sleep(_POLL_S)
        return False


@contextlib.contextmanager
def ephemeral_cluster(
    *, durable: bool = False, max_connections: int = 200, settings: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Yield a running cluster in a temporary folder, and remove it at the end, with those of killed processes."""
    on_disk = Path(tempfile.gettempdir())
    for parent in (on_disk, _MEMORY):
        for abandoned in parent.glob(f"{_EPHEMERAL_PREFIX}*"):
            _remove_abandoned(abandoned)
    parent = _MEMORY if not durable and _is_plenty_of_memory() else on_disk
    # The pid in the name distinguishes a briefly stopped cluster from an abandoned one.
    folder = Path(tempfile.mkdtemp(prefix=f"{_EPHEMERAL_PREFIX}{os.getpid()}-", dir=parent))
    folder.chmod(0o711)  # `nobody` must be able to enter
    cluster = Cluster(folder, durable=durable, max_connections=max_connections, settings=settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()
        shutil.rmtree(folder)


def _is_plenty_of_memory() -> bool:
    """Return whether a cluster fits in memory: a new database is four hundred files, which are slow on disks."""
    try:
        room = os.statvfs(_MEMORY)
    except OSError:  # does not exist on macOS
        return False
    return os.access(_MEMORY, os.W_OK) and room.f_bavail * room.f_frsize >= _PLENTY_BYTES


def _remove_abandoned(folder: Path) -> None:
    """Remove an ephemeral cluster of this user whose process is dead."""
    with contextlib.suppress(OSError, ValueError, LaunchError):
        if folder.lstat().st_uid != os.geteuid():
            return
        try:
            os.kill(int(folder.name.removeprefix(_EPHEMERAL_PREFIX).split("-")[0]), 0)
        except ProcessLookupError:
            Cluster(folder).remove()
            shutil.rmtree(folder)


def _rotate(log: Path) -> None:
    """Keep one old log. Copy it, so that it keeps its owner when root runs a normal user's cluster."""
    if log.exists() and log.stat().st_size > _LOG_ROTATED_AT_BYTES:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-10:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _known(value: _Value | None) -> _Value:
    if value is None:
        raise RuntimeError("the cluster has not been started")
    return value
