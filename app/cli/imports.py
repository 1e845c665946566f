"""`ciris-billing import`: moves the accounts of Z-Billing or SecondLayer in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.accounts.service import AccountService
from app.auth.api_keys.keys import UsageTerms
from app.auth.api_keys.usage_terms import checked_terms
from app.cli.output import AsJson, say_not_applied, show
from app.cli.running import FAILED, EnvironmentChoice, EnvironmentOption, run
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.errors import InvalidRequest
from app.neighbours.moving_in.export import BrokenRow, Export, Origin
from app.neighbours.moving_in.reading import read_export
from app.neighbours.moving_in.service import MovingIn, Target
from app.settings import Settings

imports_cli = typer.Typer(help="Move the accounts of another billing service in.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The export: JSON Lines, or CSV if its name ends in .csv.")]
Provider = Annotated[
    str,
    typer.Option(
        "--identity-provider", help="That of the API keys and tokens that name the users, such as oauth:zero."
    ),
]
Source = Annotated[
    str, typer.Option("--event-source", help="Event source of the API keys that report usage, for events without one.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Write. Without it, only the summary is printed.")]


def _import_from(origin: Origin) -> Callable[..., None]:
    """Return the command that imports the export of a service."""

    def import_export(
        file: File,
        identity_provider: Provider,
        event_source: Source = origin,
        environment: EnvironmentOption = EnvironmentChoice.LIVE,
        apply: Apply = False,
        as_json: AsJson = False,
    ) -> None:
        try:
            checked_terms(UsageTerms(identity_provider, event_source), ())
        except InvalidRequest as error:
            raise typer.BadParameter(error.detail) from None
        target = Target(environment.value, identity_provider, event_source)
        try:
            export = read_export(origin, file)
            summary = run(lambda db, settings: _move(db, settings, export, target, apply=apply))
        except OSError as error:
            typer.echo(f"{error.filename}: {error.strerror}", err=True)
            raise typer.Exit(FAILED) from None
        except BrokenRow as error:
            typer.echo(f"{file}: {error}", err=True)
            raise typer.Exit(FAILED) from None
        show([summary], as_json, single=True)
        if not apply:
            say_not_applied()

    return import_export


ORIGINS: Mapping[Origin, str] = {"z-billing": "Z-Billing", "secondlayer": "SecondLayer"}
for _origin, _name in ORIGINS.items():
    imports_cli.command(_origin, help=f"Import an export of {_name}. Repeating it changes nothing.")(
        _import_from(_origin)
    )


async def _move(db: Database, settings: Settings, export: Export, target: Target, *, apply: bool) -> dict[str, Any]:
    moving = MovingIn(db, AccountService(db, Configuration(db, settings)), target)
    now = utc_now()
    planned, summary = await moving.plan(export, now)
    for plan in planned if apply else ():
        await moving.apply(export.origin, plan, now)
    return {"origin": export.origin, "applied": apply, **summary.as_row()}
