"""PostgreSQL servers of a deployment: a primary that archives its WAL, and what its backups become.

The scripts under docker/ run as they stand, as the user that PostgreSQL runs as.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from app.demo import postgres_home
from app.demo.postgres import HOST, Cluster
from app.demo.postgres_binaries import Account, Binaries, clean_environment, find_binaries, runnable_by, spawn_options
from tests.databases import ROOT, Urls
from tests.servers import free_port

DATABASE = "ciris_billing"
ROLES = ("owner", "service", "backup")
SETTINGS = {"fsync": "off", "listen_addresses": HOST, "unix_socket_directories": "", "shared_buffers": "16MB"}
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Machine:
    """A folder that PostgreSQL's user may enter, with the scripts and the passwords of the roles."""

    folder: Path
    account: Account | None
    binaries: Binaries

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def script(self, name: str) -> Path:
        return self.folder / "docker" / name

    def password_file(self, role: str) -> Path:
        return self.folder / f"{role}.password"

    def password(self, role: str) -> str:
        return self.password_file(role).read_text()

    def new_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        if self.account is not None:
            os.chown(folder, self.account.uid, self.account.gid)
        return folder

    def environment(self, port: int, further: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the scripts, as a container would set it."""
        env = clean_environment(self.folder)
        return {
            **env,
            "PATH": f"{self.binaries.path}:{env['PATH']}",
            "PGHOST": HOST,
            "PGPORT": str(port),
            "PGPASSWORD_FILE": str(self.password_file("backup")),
            "BACKUP_DIR": str(self.backups),
            "WAL_ARCHIVE_DIR": str(self.archive),
            **further,
        }

    def run(self, port: int, script: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.script(script)), *arguments],
            cwd=self.folder,
            env=self.environment(port, env),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            **spawn_options(self.account),
        )


class Server:
    """A PostgreSQL on a data folder that some script made or is about to make. `command` runs it, port and all."""

    def __init__(self, machine: Machine, data: Path, command: list[str] | None = None, **env: str) -> None:
        self.machine, self.data, self.port, self._env = machine, data, free_port(), env
        self._command = command or [machine.binaries.program("postgres"), "-D", str(data)]
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str, database: str) -> str:
        return f"postgresql://billing_{role}:{quote(self.machine.password(role))}@{HOST}:{self.port}/{database}"

    @property
    def log(self) -> str:
        return (self.machine.folder / f"{self.data.name}.log").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it answers. Fails the test when it ends instead."""
        self.launch()
        assert self.answers(), self.log[-3000:]

    def launch(self) -> None:
        options = [
            part for name, value in (SETTINGS | {"port": str(self.port)}).items() for part in ("-c", f"{name}={value}")
        ]
        with (self.machine.folder / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *options],
                cwd=self.machine.folder,
                env=self.machine.environment(int(self._env.get("PGPORT", self.port)), self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **spawn_options(self.machine.account),
            )

    def answers(self) -> bool:
        """Waits for either: True when it takes connections, False when it has ended."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if lines[0] == str(self._process.pid) and lines[7].strip() in ("ready", "standby"):
                    return True
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.02)
        return False

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(30)
        self._process = None


@dataclass(frozen=True)
class Primary:
    """A cluster as an operator makes it: the image's init script has run, the schema is migrated."""

    machine: Machine
    cluster: Cluster

    @property
    def port(self) -> int:
        return self.cluster.port

    def urls(self, database: str = DATABASE) -> Urls:
        def of(role: str) -> str:
            return f"postgresql://billing_{role}:{quote(self.machine.password(role))}@{HOST}:{self.port}/{database}"

        return Urls(of("owner"), of("service"), self.cluster.owner_url(database))


def make_machine(folder: Path) -> Machine:
    """`folder`, open to PostgreSQL's user, with the scripts as they stand and a password for each role."""
    folder.chmod(0o711)
    shutil.copytree(ROOT / "docker", folder / "docker")
    for part in (folder / "docker").rglob("*"):
        part.chmod(0o755)
    account = postgres_home.choose_account(folder)
    binaries = runnable_by(account, find_binaries(), folder)
    machine = Machine(folder, account, binaries)
    for role in ROLES:
        machine.password_file(role).write_text(f'it\'s "{role}" $only in \\tests')
        machine.password_file(role).chmod(0o644)
    machine.new_folder("archive")
    machine.new_folder("backups")
    return machine


@contextlib.contextmanager
def running_primary(folder: Path) -> Iterator[Primary]:
    """An archiving cluster in `folder`, with the roles and the empty database that docker/postgres makes."""
    machine = make_machine(folder)
    archive = f'"{machine.script("backup/archive-wal.sh")}" "%p" "%f" "{machine.archive}"'
    settings = {"archive_mode": "on", "archive_command": archive, "shared_buffers": "32MB"}
    cluster = Cluster(folder / "primary", durable=False, settings=settings, binaries=machine.binaries)
    with cluster:
        files = {f"{role.upper()}_PASSWORD_FILE": str(machine.password_file(role)) for role in ROLES}
        password = cluster.role_password("postgres")
        done = machine.run(
            cluster.port, "postgres/init-roles.sh", PGPASSWORD=password, PGDATA=str(cluster.data_dir), **files
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout + done.stderr == ""
        os.kill(cluster.pid or 0, signal.SIGHUP)  # pg_hba.conf has a new line
        yield Primary(machine, cluster)
