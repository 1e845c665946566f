"""What `serve` and `worker` look at before they start."""

from collections.abc import Sequence

import structlog
import typer

from app.cli.running import UNUSABLE, told
from app.config import Mode, Settings
from app.db import requests_database
from app.privileges import excess_privileges, told_briefly
from app.schema import wait_until_fit

log = structlog.get_logger()


def check_database(settings: Settings) -> None:
    """Wait for a database that this version works with; exit with 3 when there is none after DATABASE_START_WAIT_S.

    In production also when DATABASE_URL's role may do more than it needs; elsewhere that is a warning.
    """
    excess = told(_look(settings))
    if not excess:
        return
    if settings.mode is Mode.PRODUCTION:
        line = f"The role of DATABASE_URL may do too much: {told_briefly(excess)}."
        typer.echo(f"{line} It must not be the role that migrates: see docs/deployment-data.md", err=True)
        raise typer.Exit(UNUSABLE)
    log.warning("database_role_may_do_too_much", excess=told_briefly(excess))


async def _look(settings: Settings) -> Sequence[str]:
    db = requests_database(settings, pool_size=3)
    try:
        bounds_s = settings.database_timeout_s if settings.is_pooled else None
        await wait_until_fit(db, wait_s=settings.database_start_wait_s, bounds_s=bounds_s)
        return await excess_privileges(db)
    finally:
        await db.close()
