"""docs/deployment.md, from an empty server to the first charge: its commands run as they stand, in their order.

There is no container engine here. A command named `docker` does what Compose would: it gives our own commands the
environment that docker-compose.yml says, with the secrets that docker/make-secrets made, against a PostgreSQL and a
PgBouncer that have those passwords.
"""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.demo.postgres import ephemeral_cluster
from tests.databases import ROOT, Urls
from tests.pooler import running_pgbouncer, statement_cache_size
from tests.servers import free_port
from tests.test_compose import SERVICES

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.M | re.S)
COMMANDS = [code for language, code in BLOCKS if language == "sh"]
DATABASE = "ciris_billing"
ROLES = {"owner": "billing_owner", "service": "billing_service"}

DOCKER = """#!/bin/sh
# docker compose -f docker-compose.yml VERB …
set -eu
[ "$1 $2 $3" = "compose -f docker-compose.yml" ] || exit 64
. ./.env
verb=$4; shift 4
billing() {{ service=$1; shift; . "./environment/$service"; {python} -m app.cli "$@"; }}
case $verb in
    config) [ "$*" = --quiet ] && [ -n "$SITE_ADDRESS" ] && [ -n "$ADMIN_OAUTH_CLIENT_ID" ];
            {python} -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml >/dev/null ;;
    pull) [ "$*" = --quiet ] ;;
    run) case $* in
            "--rm migrate") (billing migrate migrate) ;;
            "--rm migrate migrate --finish") (billing migrate migrate --finish) ;;
            *) exit 64 ;;
        esac ;;
    exec) [ "$1 $2" = "worker ciris-billing" ]; shift 2; (billing worker "$@") ;;
    up) case $* in
            "--detach --wait") (billing migrate migrate) ;;
            "--detach --no-deps --wait api-1") kill "$(cat api.pid)" ;;
            "--detach --no-deps --wait api-2 worker") exit 0 ;;
            *) exit 64 ;;
        esac
        (. ./environment/api-1; exec {python} -m app.cli serve) >api.log 2>&1 & echo $! >api.pid
        for _ in $(seq 300); do
            curl --fail --silent {url}/health >/dev/null && exit
            kill -0 "$(cat api.pid)" || {{ cat api.log; exit 1; }}
            sleep 0.1
        done
        exit 1 ;;
    *) exit 64 ;;
esac
"""


async def make_roles(superuser: str, secrets: Path) -> None:
    """Create the roles, as docker/postgres/init-roles.sh does first, with the same passwords."""
    connection = await asyncpg.connect(superuser)
    for name, role in ROLES.items():
        password = (secrets / f"{name}_password").read_text()
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLES['owner']}")
    await connection.close()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The files of a clone that the page uses."""
    for name in (".env.example", "docker-compose.yml", "alembic.ini"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker" / "make-secrets", tmp_path / "docker")
    yield tmp_path
    if (tmp_path / "api.pid").exists():
        subprocess.run(["kill", (tmp_path / "api.pid").read_text().strip()], check=False)


def with_database_at(project: Path, name: str, urls: Urls, pooler: str) -> str:
    """The secret's URL with the address that its host has here; role, password and database are the secret's."""
    url = urlsplit((project / "secrets" / name).read_text())
    here = {"pgbouncer": pooler, "postgres": urls.superuser}[url.hostname or ""]
    address = urlsplit(here)
    return url._replace(netloc=f"{url.username}:{url.password}@{address.hostname}:{address.port}").geturl()


def write_environments(project: Path, urls: Urls, pooler: str, port: int) -> None:
    """Write the environment that Compose would give to each of our services, as a file to source."""
    (project / "environment").mkdir()
    for name in ("api-1", "worker", "migrate"):
        lines = [f"HOST=127.0.0.1 PORT={port} PYTHONPATH={ROOT}"]
        lines += [f"DATABASE_STATEMENT_CACHE_SIZE={statement_cache_size()}"]  # Compose's own PgBouncer is a newer one
        for variable, value in SERVICES[name]["environment"].items():
            secret = str(value or "").removeprefix("/run/secrets/")
            if secret.startswith("database_"):
                url = with_database_at(project, secret, urls, pooler)
                lines.append(f"{variable.removesuffix('_FILE')}={shlex.quote(url)}")
            elif variable.endswith("_FILE"):
                lines.append(f"{variable}={project}/secrets/{secret}")
            elif value and not variable.startswith(("OTEL_", "WORKER_")):
                # Double quotes, so that the shell puts in what .env says, as Compose does.
                escaped = re.sub(r'(["\\])', r"\\\1", value.replace(":?", ":-"))
                lines.append(f'{variable}="{escaped}"')
        (project / "environment" / name).write_text("set -a\n" + "\n".join(lines) + "\nset +a\n")


def run(project: Path, code: str) -> str:
    env = {"PATH": f"{project}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(project)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=project, env=env, capture_output=True, text=True, timeout=280
    )
    log = project / "api.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    return done.stdout


@pytest.mark.timeout(300)  # a dozen processes, one after the other, on a machine that is busy
def test_the_page_leads_to_a_first_charge(project: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first, rest = COMMANDS[0], "\n".join(COMMANDS[1:]).replace("https://billing.example.com", url)
    run(project, first)
    with ephemeral_cluster() as cluster:
        asyncio.run(make_roles(cluster.owner_url(), project / "secrets"))
        password = (project / "secrets" / "service_password").read_text()
        superuser = cluster.owner_url()
        address = urlsplit(superuser)
        service = f"postgresql://{ROLES['service']}:{password}@{address.hostname}:{address.port}/{DATABASE}"
        urls = Urls(owner="", service=service, superuser=superuser)
        with running_pgbouncer(urls) as pooler:
            write_environments(project, urls, pooler, port)
            (project / "bin").mkdir()
            docker = project / "bin" / "docker"
            docker.write_text(DOCKER.format(python=sys.executable, url=url))
            docker.chmod(0o755)
            printed = run(project, rest)
            run(project, f"kill $(cat api.pid); while curl -s {url}/health >/dev/null; do sleep 0.1; done")
    assert '"database":"connected"' in printed
    assert '"free_uses_remaining":3' in printed
    assert '"charge_id"' in printed
    assert "ok=True" in printed
    assert not (project / "first-key.json").exists()


def test_every_command_of_a_reader_is_in_a_block_that_runs_or_needs_a_server() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "console", "text"}
    assert len(COMMANDS) == 8
    assert all(code.startswith("# ") for language, code in BLOCKS if language == "console")
