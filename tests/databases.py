"""A migrated PostgreSQL for the tests: one cluster a run, one database a worker, further ones where a test asks."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from app.demo.postgres import Cluster
from tests.processes import run_command

ROOT = Path(__file__).parent.parent
TEMPLATE = "billing_template"
OWNER_ROLE = "billing_owner"
SERVICE_ROLE = "billing_service"
PASSWORD = "only-in-tests"
ADMIN_URL = "CIRIS_TEST_ADMIN_URL"
"""Environment variable by which the controller tells its workers where the cluster is."""


MUTATION = "CIRIS_TEST_MUTATION"
"""Environment variable with SQL that spoils the schema on purpose: see mutants.py."""


CONSTRAINTS = """
    SELECT t.relname AS table_name, c.conname AS name, false AS is_index
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE 'procrastinate%'
       AND c.contype IN ('c', 'u', 'f')
     UNION ALL
    SELECT t.relname, x.relname, true
      FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
     WHERE t.relnamespace = 'public'::regnamespace AND t.relname NOT LIKE 'procrastinate%'
       AND i.indisunique AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
     ORDER BY 1, 2
    """
"""All constraints and indexes that can reject a row, except primary keys."""


@dataclass(frozen=True)
class Urls:
    """The same database as its two roles see it, and as the superuser does."""

    owner: str
    service: str
    superuser: str


def urls(database: str) -> Urls:
    superuser = urlsplit(os.environ[ADMIN_URL])

    def as_role(role: str) -> str:
        netloc = f"{role}:{quote(PASSWORD)}@{superuser.hostname}:{superuser.port}"
        return urlunsplit(("postgresql", netloc, f"/{database}", "", ""))

    return Urls(as_role(OWNER_ROLE), as_role(SERVICE_ROLE), urlunsplit(superuser._replace(path=f"/{database}")))


async def create_database(name: str, template: str | None = TEMPLATE) -> Urls:
    connection = await asyncpg.connect(os.environ[ADMIN_URL])
    source = f'TEMPLATE "{template}" STRATEGY file_copy' if template else ""
    await connection.execute(f'CREATE DATABASE "{name}" OWNER {OWNER_ROLE} {source}')
    await connection.close()
    return urls(name)


async def drop_database(name: str) -> None:
    connection = await asyncpg.connect(os.environ[ADMIN_URL])
    await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await connection.close()


def alembic(urls: Urls, *arguments: str) -> str:
    """Run alembic as an operator would; its output. Fails the test when it fails."""
    env = {
        **os.environ,
        "MODE": "development",
        "DATABASE_URL": urls.service,
        "DATABASE_OWNER_URL": urls.owner,
    }
    done = run_command(env, *arguments, program="alembic")
    assert done.status == 0, done.out + done.err
    return done.out + done.err


async def _create_roles() -> None:
    connection = await asyncpg.connect(os.environ[ADMIN_URL])
    for role in (OWNER_ROLE, SERVICE_ROLE):
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    await connection.close()


def prepare(cluster: Cluster) -> None:
    """Create the roles and the migrated template, and tell this process and its children where they are."""
    os.environ[ADMIN_URL] = cluster.owner_url()
    asyncio.run(_create_roles())
    template = asyncio.run(create_database(TEMPLATE, template=None))
    alembic(template, "upgrade", "head")
    if mutation := os.environ.get(MUTATION):
        asyncio.run(_spoil(template, mutation))


async def _spoil(template: Urls, mutation: str) -> None:
    connection = await asyncpg.connect(template.superuser)
    await connection.execute(mutation)
    await connection.close()
