"""Running a command: settings, database, and exit codes for errors."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import pydantic
import typer
from pydantic_settings import SettingsError

from app.billing.service import BillingService
from app.cli.demo_settings import use_running_demo
from app.configuration.service import Configuration
from app.db import Database
from app.db.pool_guard import is_read_only
from app.db.schema_check import Unfit
from app.errors import AppError, is_database_unavailable
from app.holds.service import HoldService
from app.observability.logs import configure_logging
from app.observability.sentry import ReportingNotInstalled, start_reporting
from app.settings import Settings, load_settings

FAILED, UNUSABLE = 1, 3
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"
Answer = TypeVar("Answer")


class EnvironmentChoice(StrEnum):
    LIVE = "live"
    TEST = "test"


EnvironmentOption = Annotated[EnvironmentChoice, typer.Option("--environment", help="live or test.")]


def settings_or_exit(*, log_level: str | None = None) -> Settings:
    """Return the settings and configure logging by them. Exit with 3 and the name of every wrong variable.

    `log_level` replaces LOG_LEVEL.
    """
    try:
        settings = load_settings()
    except pydantic.ValidationError as error:
        for problem in error.errors():
            names = ".".join(str(part) for part in problem["loc"]).upper() or "settings"
            typer.echo(f"{names}: {problem['msg']}", err=True)
        raise typer.Exit(UNUSABLE) from None
    except SettingsError as error:  # invalid JSON
        typer.echo(f"{error}: {error.__cause__}" if error.__cause__ else str(error), err=True)
        raise typer.Exit(UNUSABLE) from None
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(UNUSABLE) from None
    report = None
    if settings.sentry_dsn is not None:
        dsn = settings.sentry_dsn.get_secret_value()
        try:
            report = start_reporting(dsn, environment=settings.mode.value, release=version("ciris-billing"))
        except (ReportingNotInstalled, ValueError) as error:
            typer.echo(error, err=True)
            raise typer.Exit(UNUSABLE) from None
    configure_logging(level=log_level or settings.log_level, json=settings.log_json, report=report)
    return settings


def run(work: Callable[[Database, Settings], Awaitable[Answer]]) -> Answer:
    """Run `work` on the database of the settings or, without any, of the running demo. Exit with one line on errors."""
    use_running_demo()
    # On a terminal a person reads the command's output; LOG_LEVEL still applies to a log file.
    settings = settings_or_exit(log_level="WARNING" if sys.stderr.isatty() else None)
    return run_or_exit(on_database(settings.direct_url, work, settings))


async def on_database(
    url: pydantic.SecretStr, work: Callable[[Database, Settings], Awaitable[Answer]], settings: Settings
) -> Answer:
    db = Database(url, pool_size=2, timeout_s=settings.database_timeout_s)
    configuration = Configuration(db, settings)
    HoldService(db, BillingService(db, configuration).batcher, configuration)  # settles what is due at each lock
    try:
        return await work(db, settings)
    finally:
        await db.close()


def run_or_exit(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine and return its result. Turn errors into one line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except AppError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(UNUSABLE if error.status == 503 else FAILED) from None
    except Unfit as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNUSABLE) from None
    except Exception as error:
        if getattr(getattr(error, "orig", error), "sqlstate", None) in (UNDEFINED_TABLE, UNDEFINED_COLUMN):
            typer.echo("The database has no schema, or an older one: run `ciris-billing migrate`", err=True)
        elif is_read_only(error):
            typer.echo("The database is read-only (a standby, or default_transaction_read_only)", err=True)
        elif is_database_unavailable(error):
            reason = str(error).partition("\n")[0]
            typer.echo(f"The database does not answer: {type(error).__name__}: {reason}", err=True)
        else:
            raise
        raise typer.Exit(UNUSABLE) from None
