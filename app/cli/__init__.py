"""`ciris-billing`: the operator's command line. Every command calls the same services as the API.

The commands import their dependencies when they run, so that each process loads only what it needs.

Exit codes: 0 done; 1 rejected, or a problem was found; 2 wrong usage; 3 settings, database or issuer not usable.
"""

import asyncio
import gc
import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.accounts import accounts_cli
from app.cli.admins import admins_cli
from app.cli.config import config_cli
from app.cli.imports import imports_cli
from app.cli.keys import keys_cli
from app.cli.prices import prices_cli
from app.cli.proofs import ledger_cli, payments_cli
from app.cli.running import FAILED, on_database, run_or_exit, settings_or_exit
from app.cli.starting import check_database
from app.cli.tokens import tokens_cli
from app.settings import Settings

cli = typer.Typer(help="Run and operate CIRIS Billing.", no_args_is_help=True, pretty_exceptions_enable=False)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(tokens_cli, name="tokens")
cli.add_typer(admins_cli, name="admins")
cli.add_typer(accounts_cli, name="accounts")
cli.add_typer(ledger_cli, name="ledger")
cli.add_typer(payments_cli, name="payments")
cli.add_typer(config_cli, name="config")
cli.add_typer(prices_cli, name="prices")
cli.add_typer(imports_cli, name="import")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: PORT.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run the API until SIGTERM; then wait DRAIN_S, and finish the requests in flight."""
    from app.http.server import Config, serve_api

    settings = settings_or_exit()
    check_database(settings)
    serve_api(
        Config(
            host=host or settings.host,
            port=settings.port if port is None else port,
            workers=workers,
            drain_s=settings.drain_s,
        )
    )


def create_served_app() -> object:
    """Create the application in each process of `serve`, which configures its own logging."""
    from app.http.protocol import HeadDeadline
    from app.main import create_app

    settings = settings_or_exit()
    HeadDeadline.timeout_s = settings.request_head_timeout_s
    app = create_app(settings)
    gc.collect()
    # The default, 700, starts a collection every few requests, whose objects are still in use. That took a tenth of the
    # processor time of a charge.
    gc.set_threshold(20_000, 20, 20)
    gc.freeze()  # current objects are permanent: scanning them again would pause every request for 0.1 s each second
    return app


@cli.command()
def worker() -> None:
    """Run background jobs until SIGTERM; then finish the running ones."""
    from app.worker.app import run_worker

    settings = settings_or_exit()
    check_database(settings)
    run_or_exit(run_worker(settings))


@cli.command()
def migrate(
    revision: Annotated[str, typer.Option(help="Target revision.")] = "head",
    finish: Annotated[
        bool, typer.Option("--finish", help="End an upgrade, once this version runs everywhere.")
    ] = False,
) -> None:
    """Migrate the database's schema to the newest version, as its owner (DATABASE_OWNER_URL). Runs one at a time.

    Run it again with --finish after every replica and worker runs this version. Versions that do not know the newest
    revision then refuse to start, and features open that they could not read.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    from app.db.schema_check import MIGRATIONS, bound_role

    if finish and revision != "head":
        raise typer.BadParameter("ends an upgrade to the newest revision: leave out --revision", param_hint="--finish")
    settings = settings_or_exit()
    owner = settings.database_owner_url or settings.direct_url
    run_or_exit(on_database(owner, lambda db, _: db.ping(), settings))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["finish"] = finish
    try:
        run_or_exit(asyncio.to_thread(command.upgrade, config, revision))
    except CommandError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    if settings.is_pooled:
        bound = on_database(settings.direct_url, lambda db, _: bound_role(db, settings.database_timeout_s), settings)
        run_or_exit(bound)


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI document as JSON."""
    from app.main import create_app

    settings = Settings.model_construct()
    typer.echo(json.dumps(create_app(settings).openapi(), indent=2))


@cli.command()
def demo(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="PORT", help="Default: 8000 or the next free one.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Folder for data, keys and logs.")] = Path("var"),
    ui: Annotated[bool, typer.Option(help="Build the back office's pages, unless they exist.")] = True,
    traffic: Annotated[bool, typer.Option(help="Fill a new database with a month of sample traffic.")] = True,
) -> None:
    """Run everything on this machine, with a local Stripe and a local sign-in provider (`make run`)."""
    try:
        from app.demo.run import run_demo
    except ImportError:  # production images do not contain the demo and its dependencies
        typer.echo("The demo is not part of this installation", err=True)
        raise typer.Exit(FAILED) from None

    raise typer.Exit(run_demo(state_dir.resolve(), port, build_ui=ui, traffic=traffic))


def main() -> None:
    cli()
