"""`ciris-billing`: what an operator types. Every command calls the services that the API calls.

The commands below import what they run when they run: starting costs each process only what it needs.

Exit codes: 0 done; 1 refused, or something wrong was found; 2 wrong usage; 3 settings or database not usable.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.accounts import accounts_cli
from app.cli.admins import admins_cli
from app.cli.config import config_cli
from app.cli.keys import keys_cli
from app.cli.proofs import ledger_cli, payments_cli
from app.cli.running import FAILED, on_database, settings_or_exit, told
from app.config import Settings

ROOT = Path(__file__).parent.parent.parent

cli = typer.Typer(help="Run and look after CIRIS Billing.", no_args_is_help=True, pretty_exceptions_enable=False)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(admins_cli, name="admins")
cli.add_typer(accounts_cli, name="accounts")
cli.add_typer(ledger_cli, name="ledger")
cli.add_typer(payments_cli, name="payments")
cli.add_typer(config_cli, name="config")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: PORT.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run the API until SIGTERM; then finish the requests under way."""
    import uvicorn

    settings = settings_or_exit()
    uvicorn.run(
        "app.cli:create_served_app",
        factory=True,
        http="app.protocol:AdmittingProtocol",
        host=host or settings.host,
        port=settings.port if port is None else port,
        workers=workers,
        access_log=False,
        log_config=None,
        proxy_headers=False,  # app.auth decides whom to believe, by TRUSTED_PROXIES
        server_header=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=75,
    )


def create_served_app() -> object:
    """The application in each process of `serve`, which configures its own logging."""
    from app.main import create_app

    app = create_app(settings_or_exit())
    gc.collect()
    gc.freeze()  # what exists now stays: to look it all over again would stop every request for 0.1 s each second
    return app


@cli.command()
def worker() -> None:
    """Run background jobs until SIGTERM; then finish those under way."""
    from app.worker.app import run_worker

    told(run_worker(settings_or_exit()))


@cli.command()
def migrate(revision: Annotated[str, typer.Option(help="Where to.")] = "head") -> None:
    """Bring the database's schema up to date, as its owner (DATABASE_OWNER_URL)."""
    settings = settings_or_exit()
    owner = settings.database_owner_url or settings.database_url
    told(on_database(owner, lambda db, _: db.ping(), settings))
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", revision]
    raise typer.Exit(FAILED if subprocess.run(command, check=False).returncode else 0)  # noqa: S603  (our own words)


@cli.command()
def openapi() -> None:
    """Print the API's description as JSON."""
    from app.main import create_app

    settings = Settings.model_construct()
    typer.echo(json.dumps(create_app(settings).openapi(), indent=2))


@cli.command()
def demo(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="PORT", help="Default: 8000 or the next free one.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Where data, keys and logs are kept.")] = Path("var"),
    ui: Annotated[bool, typer.Option(help="Build the back office's pages, unless they are.")] = True,
    traffic: Annotated[bool, typer.Option(help="Fill a new database with a month of made-up traffic.")] = True,
) -> None:
    """Run everything on this machine, with a local Stripe and a local sign-in provider (`make run`)."""
    from app.demo.run import run_demo  # production images leave the demo's dependencies out

    raise typer.Exit(run_demo(state_dir.resolve(), port, build_ui=ui, traffic=traffic))


def main() -> None:
    cli()
