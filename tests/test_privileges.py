"""Two roles: the owner migrates, the service's role does what app/db/role_check.py decided and not a statement more."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import asyncpg
import pytest
import typer
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.cli.starting import check_database
from app.db import Database
from app.db.role_check import DECIDED, GRANTABLE, excess_privileges
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import OWNER_ROLE, PASSWORD, ROOT, SERVICE_ROLE, Urls, create_database, drop_database, urls
from tests.servers import environment

TABLES_OF_SERVICE = """
    SELECT c.relname AS name, array_agg(p.name ORDER BY p.ordinality) AS held
      FROM pg_class c, unnest($1::text[]) WITH ORDINALITY p(name, ordinality)
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND has_table_privilege(c.oid, p.name)
     GROUP BY c.relname
    """
TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')"
)
TOKEN = "m" * 40
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
BOOKS = (
    *("ledger_entries", "admin_audit_log", "configuration_versions", "ledger_verifications"),
    *("price_books", "price_book_activations", "ledger_chain"),
)


async def test_every_table_of_the_newest_schema_is_decided_on(database: Urls) -> None:
    """A new table fails here until app/db/role_check.py says what the service may do with it."""
    async with connected(database) as owner:
        present = {row["relname"] for row in await owner.fetch(TABLES)}
    assert present == set(DECIDED), "decide in app/db/role_check.py"
    service = await asyncpg.connect(database.service)
    held = {row["name"]: row["held"] for row in await service.fetch(TABLES_OF_SERVICE, list(GRANTABLE))}
    await service.close()
    assert held == {table: decided.split(", ") for table, decided in DECIDED.items()}


@pytest.mark.parametrize(
    "statement",
    [
        *(sql for table in BOOKS for sql in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"DROP TABLE {table}")),
        "UPDATE ledger_entries SET delta = 0",
        "UPDATE ledger_chain SET hash = ''",
        "UPDATE admin_audit_log SET reason = ''",
        "UPDATE configuration_versions SET reason = ''",
        "UPDATE price_books SET document = '{}'",
        "UPDATE price_book_activations SET effective_at = now()",
        "UPDATE ledger_verifications SET ok = true",
        "DELETE FROM accounts",
        "DELETE FROM charges",
        "DELETE FROM credits",
        "DELETE FROM purchases",
        "DELETE FROM payment_events",
        "TRUNCATE accounts CASCADE",
        "UPDATE alembic_version SET version_num = '0001'",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "ALTER TABLE accounts DROP CONSTRAINT ck_accounts_paid",
        "CREATE TABLE public.of_the_service (a int)",
        "CREATE SCHEMA of_the_service",
        "CREATE TRIGGER mine BEFORE INSERT ON accounts EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE OR REPLACE FUNCTION notify_revoked_token() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE RULE mine AS ON INSERT TO ledger_entries DO INSTEAD NOTHING",
        "SET session_replication_role = replica",
        f"SET ROLE {OWNER_ROLE}",
        "CREATE ROLE somebody",
        "COPY accounts TO PROGRAM 'true'",
    ],
)
async def test_database_refuses_the_service(database: Urls, statement: str) -> None:
    service = await asyncpg.connect(database.service)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)
    finally:
        await service.close()


@dataclass(frozen=True)
class Login:
    """A role that has the service's rights, in a separate database."""

    name: str
    urls: Urls

    async def may_too_much(self) -> str:
        db = Database(SecretStr(self.urls.service), timeout_s=20)
        try:
            return "; ".join(await excess_privileges(db))
        finally:
            await db.close()


@pytest.fixture(scope="module")
async def login() -> AsyncIterator[Login]:
    name = f"billing_login_{uuid.uuid4().hex}"
    made = await create_database(name)
    async with connected(made) as superuser:
        await superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE {name}_group")
        for table, privileges in DECIDED.items():
            await superuser.execute(f"GRANT {privileges} ON {table} TO {name}")
    yield Login(name, replace(made, service=made.service.replace(f"//{SERVICE_ROLE}:", f"//{name}:")))
    await drop_database(name)
    async with connected(urls("postgres")) as superuser:
        await superuser.execute(f"DROP ROLE {name}; DROP ROLE {name}_group")


async def test_the_roles_that_migrations_make_may_nothing_too_much(login: Login, database: Urls) -> None:
    assert await login.may_too_much() == ""
    db = Database(SecretStr(database.service))
    assert await excess_privileges(db) == []
    await db.close()


@pytest.mark.parametrize(
    ("given", "problem", "taken"),
    [
        (
            "GRANT UPDATE ON ledger_entries TO me",
            "me may UPDATE on ledger_entries",
            "REVOKE UPDATE ON ledger_entries FROM me",
        ),
        (
            "GRANT UPDATE (delta) ON ledger_entries TO me",
            "me may UPDATE on ledger_entries",
            "REVOKE UPDATE (delta) ON ledger_entries FROM me",
        ),
        (
            "GRANT TRUNCATE, DELETE ON charges TO PUBLIC",
            "me may DELETE, TRUNCATE on charges",
            "REVOKE TRUNCATE, DELETE ON charges FROM PUBLIC",
        ),
        ("GRANT TRIGGER ON accounts TO me", "me may TRIGGER on accounts", "REVOKE TRIGGER ON accounts FROM me"),
        (
            "GRANT INSERT ON alembic_version TO me",
            "me may INSERT on alembic_version",
            "REVOKE INSERT ON alembic_version FROM me",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO me",
            "me may create objects in the schema public",
            "REVOKE CREATE ON SCHEMA public FROM me",
        ),
        ("GRANT CREATE ON DATABASE db TO me", "me may create schemas", "REVOKE CREATE ON DATABASE db FROM me"),
        ("ALTER DATABASE db OWNER TO me", "me owns the database", f"ALTER DATABASE db OWNER TO {OWNER_ROLE}"),
        (
            "ALTER TABLE accounts OWNER TO me",
            "me owns the relation accounts",
            f"ALTER TABLE accounts OWNER TO {OWNER_ROLE}; GRANT SELECT, INSERT, UPDATE ON accounts TO me",
        ),
        (
            "ALTER FUNCTION notify_api_key() OWNER TO me",
            "me owns the function notify_api_key",
            f"ALTER FUNCTION notify_api_key() OWNER TO {OWNER_ROLE}",
        ),
        (
            "ALTER FUNCTION notify_api_key() SECURITY DEFINER",
            "me may run the function notify_api_key as its owner",
            "ALTER FUNCTION notify_api_key() SECURITY INVOKER",
        ),
        (
            f"GRANT {OWNER_ROLE} TO me_group; GRANT me_group TO me",
            "owner owns the relation accounts",
            f"REVOKE me_group FROM me; REVOKE {OWNER_ROLE} FROM me_group",
        ),
        (
            "ALTER ROLE me NOINHERIT; GRANT me_group TO me; GRANT DELETE ON ledger_entries TO me_group",
            "me_group may DELETE on ledger_entries",
            "REVOKE me_group FROM me; REVOKE DELETE ON ledger_entries FROM me_group; ALTER ROLE me INHERIT",
        ),
        ("GRANT pg_write_all_data TO me", "pg_write_all_data may DELETE", "REVOKE pg_write_all_data FROM me"),
        (
            "GRANT pg_execute_server_program TO me",
            "it is a member of pg_execute_server_program",
            "REVOKE pg_execute_server_program FROM me",
        ),
        ("ALTER ROLE me CREATEROLE", "me has the attribute CREATEROLE", "ALTER ROLE me NOCREATEROLE"),
        ("ALTER ROLE me SUPERUSER", "it is a superuser", "ALTER ROLE me NOSUPERUSER"),
        (
            "GRANT SET ON PARAMETER session_replication_role TO me",
            "me may switch triggers off",
            "REVOKE SET ON PARAMETER session_replication_role FROM me",
        ),
    ],
)
async def test_every_kind_of_excess_is_seen(login: Login, given: str, problem: str, taken: str) -> None:
    """`me` is the login, `me_group` a role that it may become, `db` its database."""

    def named(text: str) -> str:
        return re.sub(r"\bdb\b", f'"{login.name}"', re.sub(r"\bme(?=\b|_group)", login.name, text))

    async with connected(login.urls) as superuser:
        await superuser.execute(named(given))
        try:
            excess = await login.may_too_much()
        finally:
            await superuser.execute(named(taken))
    assert named(problem) in excess
    assert await login.may_too_much() == ""


def test_production_does_not_start_as_the_owner(database: Urls) -> None:
    env = {**os.environ, **environment(database), "MODE": "production", "METRICS_TOKEN": TOKEN}
    env["DATABASE_URL"] = database.owner
    for command in ("serve", "worker"):
        arguments = [sys.executable, "-m", "app.cli", command]
        done = subprocess.run(arguments, cwd=ROOT, env=env, text=True, capture_output=True, timeout=60, check=False)
        assert done.returncode == 3
        [line] = done.stderr.strip().splitlines()
        assert line.startswith("The role of DATABASE_URL may do too much: ")
        assert f"{OWNER_ROLE} owns the database" in line
        assert re.search(r"and \d+ more\. It must not be the role that migrates", line)


def test_production_starts_as_the_service_and_development_warns(
    database: Urls, capsys: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logged:
        check_database(settings_for(database, mode="production", metrics_token=TOKEN))
        assert logged == []
        check_database(settings_for(database, database_url=database.superuser))
    [warned] = logged
    assert (warned["event"], warned["excess"]) == ("database_role_may_do_too_much", "it is a superuser")
    assert capsys.readouterr().err == ""


def test_the_role_that_reads_a_replica_is_looked_at_as_well_and_a_replica_that_is_away_is_not_waited_for(
    database: Urls, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its role is that of the primary: the look reads what a standby has as well."""
    production = {"mode": "production", "metrics_token": TOKEN}
    with capture_logs() as logged:
        check_database(settings_for(database, **production, database_read_url=database.service))
        assert logged == []
        check_database(settings_for(database, **production, database_read_url=NOWHERE))
    assert [line["event"] for line in logged] == ["replica_role_not_seen"]
    with pytest.raises(typer.Exit) as ended:
        check_database(settings_for(database, **production, database_read_url=database.superuser))
    assert ended.value.exit_code == 3
    message = "The role of DATABASE_READ_URL may do too much: it is a superuser. It must not be the role that migrates"
    assert message in capsys.readouterr().err


def test_production_does_not_start_unseen(database: Urls, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        check_database(
            settings_for(
                database, mode="production", metrics_token=TOKEN, database_url=NOWHERE, database_start_wait_s=0
            )
        )
    assert ended.value.exit_code == 3
    assert "The database does not answer" in capsys.readouterr().err
