"""docker/postgres/init-roles.sh on a new cluster, and what migrations make of its roles."""

import asyncpg
import pytest
from pydantic import SecretStr

from app.db import Database
from app.db.role_check import excess_privileges
from tests.clusters.servers import ROLES, Primary


async def test_the_service_of_a_new_cluster_may_no_more_than_it_needs(primary: Primary) -> None:
    db = Database(SecretStr(primary.urls().service), timeout_s=20)
    assert await excess_privileges(db) == []
    await db.close()


async def test_the_owner_owns_its_database_and_nothing_else(primary: Primary) -> None:
    connection = await asyncpg.connect(primary.urls().owner)
    row = await connection.fetchrow("SELECT * FROM pg_roles WHERE rolname = current_user")
    await connection.close()
    assert not any(row[f"rol{name}"] for name in ("super", "createrole", "createdb", "replication", "bypassrls"))
    for role in ("owner", "service"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(getattr(primary.urls("postgres"), role))


def test_passwords_are_in_no_log(primary: Primary) -> None:
    log = primary.cluster.log_file.read_text(errors="replace")
    for role in ROLES:
        assert primary.machine.password(role) not in log


def test_the_script_fails_without_a_password_and_changes_nothing(primary: Primary) -> None:
    files = {f"{role.upper()}_PASSWORD_FILE": str(primary.machine.password_file(role)) for role in ROLES}
    done = primary.machine.run(primary.port, "postgres/init-roles.sh", **(files | {"BACKUP_PASSWORD_FILE": "/nowhere"}))
    assert (done.returncode, done.stderr) == (1, "init-roles: /nowhere is missing or empty\n")
