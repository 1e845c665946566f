"""Checks before `serve` and `worker` start."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
import typer

from app.cli.running import UNUSABLE, run_or_exit
from app.db import Database, requests_database
from app.db.role_check import excess_privileges, summarize
from app.db.schema_check import newest_revision, oldest_running, wait_until_fit
from app.errors import is_database_unavailable
from app.settings import Mode, Settings

log = structlog.get_logger()


def check_database(settings: Settings) -> None:
    """Wait for a database that this version works with. Exit with 3 if there is none after DATABASE_START_WAIT_S.

    In production also exit if the role of DATABASE_URL or DATABASE_READ_URL has more privileges than it needs; in other
    modes that is a warning. A replica that is down is not waited for: the service works without it.
    """
    for setting, excess in run_or_exit(_excess_by_setting(settings)).items():
        if settings.mode is Mode.PRODUCTION:
            line = f"The role of {setting} may do too much: {summarize(excess)}."
            typer.echo(f"{line} It must not be the role that migrates: see docs/deployment-data.md", err=True)
            raise typer.Exit(UNUSABLE)
        log.warning("database_role_may_do_too_much", setting=setting, excess=summarize(excess))


async def _excess_by_setting(settings: Settings) -> dict[str, Sequence[str]]:
    """Return the unnecessary privileges of each setting's role, if there are any."""
    found = {}
    async with closing(requests_database(settings, pool_size=3)) as db:
        bounds_s = settings.database_timeout_s if settings.is_pooled else None
        await wait_until_fit(db, wait_s=settings.database_start_wait_s, bounds_s=bounds_s)
        if (await oldest_running(db) or "") < newest_revision():
            log.info("upgrade_not_finished", run="ciris-billing migrate --finish, once this version runs everywhere")
        found["DATABASE_URL"] = await excess_privileges(db)
    if settings.database_read_url is not None:
        replica = Database(settings.database_read_url, pool_size=3, timeout_s=settings.database_timeout_s)
        async with closing(replica) as db:
            try:
                found["DATABASE_READ_URL"] = await excess_privileges(db)
            except Exception as error:
                if not is_database_unavailable(error):
                    raise
                log.warning("replica_role_not_seen", error=type(error).__name__)
    return {setting: excess for setting, excess in found.items() if excess}


@asynccontextmanager
async def closing(db: Database) -> AsyncIterator[Database]:
    try:
        yield db
    finally:
        await db.close()
