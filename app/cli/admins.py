"""`ciris-billing admins`: add, list and remove admins, and create tokens for scripts."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from app.auth.admins.admins import add_admin, list_admins, remove_admin
from app.auth.admins.sessions import AdminSessions
from app.cli.output import AsJson, show
from app.cli.running import run
from app.clock import utc_now
from app.db import Database
from app.settings import Settings

admins_cli = typer.Typer(help="Admins of the back office.", no_args_is_help=True)


class AdminRole(StrEnum):
    VIEWER = "viewer"
    SUPPORT = "support"
    ADMIN = "admin"


@admins_cli.command("add")
def admins_add(email: str, role: Annotated[AdminRole, typer.Option()] = AdminRole.ADMIN) -> None:
    """Give a person access to the back office, or change their role."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await add_admin(tx, email, role.value, now=utc_now())

    run(work)


@admins_cli.command("list")
def admins_list(as_json: AsJson = False) -> None:
    """List the admins."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            admins = await list_admins(session)
        return [{name: getattr(a, name) for name in ("email", "role", "created_at", "disabled_at")} for a in admins]

    show(run(work), as_json)


@admins_cli.command("remove")
def admins_remove(email: str) -> None:
    """Remove an admin's access, and end their sessions."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await remove_admin(tx, email, now=utc_now())

    run(work)


@admins_cli.command("token")
def admins_token(email: str) -> None:
    """Open a session for a script and print its token, for `Authorization: Bearer`. It is valid for 8 hours."""

    async def work(db: Database, settings: Settings) -> str:
        sessions = AdminSessions(db, settings)
        async with db.transaction() as tx:
            return await sessions.open_for_script(tx, email.strip().lower(), now=utc_now())

    typer.echo(run(work))
