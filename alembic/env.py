"""Runs the migrations as the schema's owner, one process at a time, then grants privileges to the service's role."""

import asyncio
import importlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

import app
from app.connection_urls import PostgresUrl
from app.db import ASYNCPG, Base
from app.db.role_check import privileges_of
from app.db.version_mark import OLDEST, oldest_of
from app.settings import load_settings

# Importing a package's models puts its tables into Base.metadata.
for path in sorted(Path(app.__file__).parent.rglob("models.py")):
    importlib.import_module(".".join(("app", *path.relative_to(Path(app.__file__).parent).with_suffix("").parts)))

MIGRATION_LOCK = 0x0C1215B1  # any constant: concurrent migrations wait for each other
LOCK_TIMEOUT = "5s"  # a migration that cannot get its lock fails, instead of blocking all traffic behind it


def include_name(name: str | None, type_: str, parents: Mapping[str, Any]) -> bool:
    """Exclude the job queue's tables, which belong to procrastinate; its own schema script creates them."""
    return not (type_ == "table" and name is not None and name.startswith("procrastinate_"))


def grant(connection: Connection, role: str, tables: Iterable[str]) -> None:
    """Grant `role` exactly the privileges in app/db/role_check.py, per table. Idempotent; one transaction."""
    quote = connection.dialect.identifier_preparer.quote
    quoted = quote(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {quoted}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {quoted}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {quoted}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted}",
        *(f"GRANT {privileges_of(table)} ON {quote(table)} TO {quoted}" for table in tables),
    ):
        connection.execute(text(statement))


def drop_unfinished_indexes(connection: Connection) -> None:
    """Drop the indexes whose concurrent build was interrupted.

    PostgreSQL leaves them invalid: no query uses them, and a repeated `IF NOT EXISTS` would keep them.
    """
    ours = {str(index.name) for table in Base.metadata.tables.values() for index in table.indexes}
    for name in connection.scalars(text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")).all():
        if name in ours:
            connection.execute(text(f"DROP INDEX {name}"))
    connection.commit()


def record_oldest_version(connection: Connection, *, was_empty: bool) -> None:
    """Store the mark of the oldest version that may still run, where versions read it at start (ADR 26).

    On a database that was empty no older version runs: the mark is the applied revision, as after `migrate --finish`.
    Else the mark stays, unless an applied revision declares a later `oldest_app`: a revision that removes something
    that a released version still uses names the first revision whose version does not use it. The mark is never later
    than the applied revision, so a downgrade lowers it.
    """
    heads = context.get_context().get_current_heads()
    head = max(heads, default="")
    applied = context.script.iterate_revisions(heads, "base")
    comment = connection.scalar(text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"))
    declared = max((getattr(revision.module, "oldest_app", "") for revision in applied), default="")
    finished = head if was_empty or context.config.attributes.get("finish") else ""
    oldest = min(max(declared, finished, oldest_of(comment) or ""), head)
    if (comment or "") != (OLDEST.format(oldest) if oldest else ""):
        value = f"'{OLDEST.format(oldest)}'" if oldest else "NULL"
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS {value}"))
    connection.commit()


def run(connection: Connection) -> None:
    settings = load_settings()
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=include_name,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    # Polled: CREATE INDEX CONCURRENTLY would wait for a statement that waits for this lock.
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}):
        connection.commit()
        time.sleep(0.2)
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    # If one role does everything, it has the time-out for requests (app/db/schema_check.py).
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
    connection.commit()
    was_empty = not context.get_context().get_current_heads()
    connection.commit()
    drop_unfinished_indexes(connection)
    with context.begin_transaction():
        context.run_migrations()
    record_oldest_version(connection, was_empty=was_empty)
    owner = PostgresUrl.parse((settings.database_owner_url or settings.direct_url).get_secret_value()).user
    service = PostgresUrl.parse(settings.database_url.get_secret_value()).user
    present = set(connection.dialect.get_table_names(connection))  # type: ignore[attr-defined]  # reflection, untyped
    connection.commit()
    if service and service != owner and "alembic_version" in present:
        grant(connection, service, sorted(present))
        connection.commit()


async def main() -> None:
    settings = load_settings()
    owner = PostgresUrl.parse((settings.database_owner_url or settings.direct_url).get_secret_value())
    engine = create_async_engine(ASYNCPG, connect_args=owner.asyncpg(), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def print_sql() -> None:
    """Print the statements for `alembic upgrade head --sql`, for review and for the lock-safety lint."""
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        context.run_migrations()


if context.is_offline_mode():
    print_sql()
else:
    asyncio.run(main())
