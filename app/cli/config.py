"""`ciris-billing config`: stored provider keys."""

import typer

from app.cli.running import FAILED, run
from app.clock import utc_now
from app.configuration.editing import ConfigurationEditor
from app.configuration.sealing import CannotOpen
from app.db import Database
from app.settings import Settings

config_cli = typer.Typer(help="Configuration stored by the back office.", no_args_is_help=True)


@config_cli.callback()
def _group() -> None:
    """Make `reseal` a subcommand, although it is the only one."""


@config_cli.command("reseal")
def config_reseal() -> None:
    """Encrypt the stored provider keys with the first of ENCRYPTION_KEYS, so that older keys can be removed."""

    async def work(db: Database, settings: Settings) -> int:
        async with db.transaction() as tx:
            return await ConfigurationEditor(settings).reseal(tx, utc_now())

    try:
        typer.echo(f"Resealed: {run(work)}")
    except CannotOpen as error:
        typer.echo(f"Nothing was resealed: {error}", err=True)
        raise typer.Exit(FAILED) from None
