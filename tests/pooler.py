"""A real PgBouncer in front of the tests' PostgreSQL, with the configuration that docker-compose.yml uses."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from app.demo.postgres import HOST
from tests.databases import ROOT, Urls
from tests.servers import free_port

CONFIGURATION = ROOT / "docker" / "pgbouncer" / "pgbouncer.ini"
KEEPS_PREPARED_STATEMENTS = (1, 21)
START_TIMEOUT_S = 20


def installed() -> str | None:
    """PgBouncer's path: PGBOUNCER, or where packages put it. `make pgbouncer` installs it on Debian and Ubuntu."""
    return os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


def pgbouncer() -> str:
    """Its path. Without it the test that asks is skipped."""
    path = installed()
    if path is None:
        assert "REQUIRE_PGBOUNCER" not in os.environ, "missing: PgBouncer"
        pytest.skip("needs PgBouncer; REQUIRE_PGBOUNCER=1 makes this a failure")
    return path


@cache
def version() -> tuple[int, ...]:
    printed = subprocess.run([pgbouncer(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", printed)
    assert found, printed
    return tuple(int(part) for part in found.groups())


def statement_cache_size() -> int:
    """DATABASE_STATEMENT_CACHE_SIZE that fits the PgBouncer of this machine: older ones keep no prepared statements."""
    return 100 if version() >= KEEPS_PREPARED_STATEMENTS else 0


def configuration(folder: Path, urls: Urls, port: int, pool_size: int) -> str:
    """docker/pgbouncer/pgbouncer.ini with addresses of this machine, and few server connections, so that they move."""
    server = urlsplit(urls.service)
    changes = {
        "ciris_billing": f"host={server.hostname} port={server.port} dbname={server.path[1:]}",
        "listen_addr": HOST,
        "listen_port": str(port),
        "auth_file": str(folder / "userlist.txt"),
        "default_pool_size": str(pool_size),
    }
    lines = CONFIGURATION.read_text(encoding="utf-8").splitlines()
    if version() < KEEPS_PREPARED_STATEMENTS:
        lines = [line for line in lines if not line.startswith("max_prepared_statements")]
    return "\n".join(
        f"{name} = {changes[name]}" if (name := line.partition(" = ")[0]) in changes else line for line in lines
    )


class Pooler:
    """A PgBouncer with `pool_size` server connections before `urls.service`, always on the same port."""

    def __init__(self, urls: Urls, pool_size: int, folder: Path) -> None:
        self.port = free_port()
        service = urlsplit(urls.service)
        netloc = f"{service.username}:{service.password}@{HOST}:{self.port}"
        self.url = urlunsplit(service._replace(netloc=netloc, path="/ciris_billing"))
        """The service's URL by way of it."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.chmod(0o755)  # PgBouncer never runs as root, even if root starts it
        (folder / "userlist.txt").write_text(f'"{service.username}" "{unquote(service.password or "")}"\n')
        (folder / "pgbouncer.ini").write_text(configuration(folder, urls, self.port, pool_size))

    def start(self) -> None:
        """Returns when it listens."""
        user = ["-u", "nobody"] if os.getuid() == 0 else []
        with tempfile.TemporaryFile() as log:
            command = [pgbouncer(), *user, str(self._folder / "pgbouncer.ini")]
            process = self._process = subprocess.Popen(command, stdout=log, stderr=log)
            deadline = time.monotonic() + START_TIMEOUT_S
            while f"{HOST}:{self.port}" not in _printed(log):
                assert process.poll() is None, _printed(log)
                assert time.monotonic() < deadline, _printed(log)
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: its clients' connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running_pooler(urls: Urls, pool_size: int = 4) -> Iterator[Pooler]:
    with tempfile.TemporaryDirectory() as folder:
        pooler = Pooler(urls, pool_size, Path(folder))
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.kill()


@contextlib.contextmanager
def running_pgbouncer(urls: Urls, pool_size: int = 4) -> Iterator[str]:
    """The service's URL by way of a PgBouncer with `pool_size` server connections."""
    with running_pooler(urls, pool_size) as pooler:
        yield pooler.url


def _printed(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")
