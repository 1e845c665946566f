"""Schema check: whether this version works with the database's schema revision and the role's time-outs (ADR 10)."""

import asyncio
from functools import cache
from pathlib import Path

import structlog
from sqlalchemy import text

from app.db import Database, session_bounds
from app.db.version_mark import NO_PRIVILEGE, NO_TABLE, OLDEST, oldest_of, oldest_running
from app.errors import is_database_unavailable

PACKAGE = Path(__file__).parent.parent
# A wheel contains the migrations inside the package; a checkout has them beside it.
MIGRATIONS = next(
    (folder for folder in (PACKAGE / "migrations", PACKAGE.parent / "alembic") if (folder / "env.py").exists()),
    PACKAGE / "migrations",
)
LOOK_AGAIN_AFTER_S = 0.5

__all__ = ["MIGRATIONS", "OLDEST", "Unfit", "find_misfit", "misfit", "newest_revision", "oldest_running"]
log = structlog.get_logger()

_REVISION = """
    SELECT version_num AS revision, obj_description('alembic_version'::regclass, 'pg_class') AS comment
      FROM alembic_version
"""
_IS_BOUNDED = """
    SELECT bool_and(CAST(setting AS bigint) BETWEEN 1 AND $2) AS bounded FROM pg_settings WHERE name = ANY($1)
"""
_BOUND = """
    DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET {} = {}', current_database(), '{}'); END $$
"""


class Unfit(Exception):
    """PostgreSQL answers, but this version does not work with the database. The message says what to do."""


@cache
def newest_revision() -> str:
    """Return the last revision that this version knows, from the names of the migrations: `0009_users.py`."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def misfit(revision: str | None, comment: str | None, known: str) -> str | None:
    """Return why a version whose last revision is `known` cannot work with a schema at `revision`; None if it can.

    Newer schemas are expected during a deploy. They only add, until one names the oldest version that it supports
    (`OLDEST`).
    """
    if revision is None or revision < known:
        found = f"an older one ({revision})" if revision else "none"
        return (
            f"The database's schema does not fit: this version needs {known}, the database has {found}. Run "
            "`ciris-billing migrate`"
        )
    oldest = oldest_of(comment)
    if oldest is not None and oldest > known:
        return (
            f"The database's schema ({revision}) needs a version that knows {oldest}, this one knows {known}. Run "
            "a newer version"
        )
    return None


async def find_misfit(db: Database, bounds_s: float | None) -> str | None:
    """Return the reason why this version cannot work with the database, as one sentence; None if it can.

    `bounds_s`: the longest that statements and locks may take by the role's own settings; None if sessions set it.
    Raise the driver's error if PostgreSQL does not answer.
    """
    try:
        row = await db.fetch_row(_REVISION)
    except Exception as error:
        if getattr(error, "sqlstate", None) not in (NO_TABLE, NO_PRIVILEGE):
            raise
        row = None
    revision, comment = (row["revision"], row["comment"]) if row is not None else (None, None)
    found = misfit(revision, comment, newest_revision())
    if found is None and bounds_s is not None:
        bounded = await db.fetch_row(_IS_BOUNDED, list(session_bounds(bounds_s)), int(bounds_s * 1000))
        if bounded is None or not bounded["bounded"]:
            return (
                f"Behind the pooler no setting ends a statement after {bounds_s} s: run `ciris-billing migrate`, "
                "then restart the pooler"
            )
    return found


async def wait_until_fit(db: Database, *, wait_s: float, bounds_s: float | None = None) -> None:
    """Return as soon as the database answers and this version works with it.

    After `wait_s` raise Unfit, or the driver's last error.
    """
    clock = asyncio.get_running_loop().time
    give_up_s = clock() + wait_s
    while True:
        try:
            found = await find_misfit(db, bounds_s)
            if found is None:
                return
            problem: Exception = Unfit(found)
        except Exception as error:
            if not is_database_unavailable(error):
                raise
            problem = error
        if clock() >= give_up_s:
            raise problem
        log.warning("waiting_for_database", problem=str(problem).partition("\n")[0])
        await asyncio.sleep(LOOK_AGAIN_AFTER_S)


async def bound_role(db: Database, timeout_s: float) -> None:
    """Make `timeout_s` the default of `db`'s role in this database. Works behind a pooler too."""
    async with db.transaction() as tx:
        for name, value_ms in {**session_bounds(timeout_s), "jit": "off"}.items():
            await tx.execute(text(_BOUND.format(name, "%L", value_ms)))
