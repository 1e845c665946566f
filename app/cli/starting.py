"""What `serve` and `worker` look at before they start."""

import asyncio

import structlog
import typer

from app.cli.running import UNUSABLE, on_database, told
from app.config import Mode, Settings
from app.errors import is_database_unavailable
from app.privileges import excess_privileges, told_briefly

log = structlog.get_logger()


def check_role(settings: Settings) -> None:
    """Exit with 3 in production when DATABASE_URL's role may do more than it needs, or nobody can tell; else warn."""
    look = on_database(settings.database_url, lambda db, _: excess_privileges(db), settings)
    if settings.mode is Mode.PRODUCTION:
        excess = told(look)
        if excess:
            line = f"The role of DATABASE_URL may do too much: {told_briefly(excess)}."
            typer.echo(f"{line} It must not be the role that migrates: see docs/deployment-data.md", err=True)
            raise typer.Exit(UNUSABLE)
        return
    try:
        excess = asyncio.run(look)
    except Exception as error:
        if not is_database_unavailable(error):
            raise
        return  # the service waits for its database, and answers 503 until then
    if excess:
        log.warning("database_role_may_do_too_much", excess=told_briefly(excess))
