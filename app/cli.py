"""`ciris-billing`: what an operator types. Every command calls the services that the API calls.

Exit codes: 0 done; 1 refused, or something wrong was found; 2 wrong usage; 3 settings or database not usable.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import pydantic
import typer
import uvicorn

from app.auth.admins import add_admin, list_admins, remove_admin
from app.auth.caller import Actor, Permission
from app.auth.service import create_key, list_keys, revoke_key, rotate_key
from app.billing.accounts import Identity
from app.billing.pools import Credits
from app.billing.service import BillingService
from app.billing.verify import verify_ledger
from app.clock import utc_now
from app.config import Settings, load_settings
from app.db import Database
from app.errors import AppError, is_database_unavailable
from app.main import create_app
from app.observability import configure_logging
from app.payments.gateway import StripeGateway
from app.payments.service import PaymentService
from app.worker.app import run_worker

FAILED, UNUSABLE = 1, 3
UNDEFINED_TABLE, UNDEFINED_COLUMN = "42P01", "42703"
ROOT = Path(__file__).parent.parent
OPERATOR = Actor("system", "ciris-billing")
Answer = TypeVar("Answer")

cli = typer.Typer(help="Run and look after CIRIS Billing.", no_args_is_help=True, pretty_exceptions_enable=False)
keys_cli = typer.Typer(help="API keys.", no_args_is_help=True)
admins_cli = typer.Typer(help="Who may sign in to the back office.", no_args_is_help=True)
accounts_cli = typer.Typer(help="Look at a customer's account, and put it right.", no_args_is_help=True)
ledger_cli = typer.Typer(help="The ledger.", no_args_is_help=True)
payments_cli = typer.Typer(help="Payments.", no_args_is_help=True)
cli.add_typer(keys_cli, name="keys")
cli.add_typer(admins_cli, name="admins")
cli.add_typer(accounts_cli, name="accounts")
cli.add_typer(ledger_cli, name="ledger")
cli.add_typer(payments_cli, name="payments")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
KeyId = Annotated[str, typer.Argument(help="The key's public id, as `keys list` shows it.")]
AccountId = Annotated[UUID | None, typer.Option("--account-id", help="The account, by its id;")]
Provider = Annotated[str | None, typer.Option(help="or by its identity: such as oauth:google")]
ExternalId = Annotated[str | None, typer.Option(help="and the user's id there.")]


class World(StrEnum):
    LIVE = "live"
    TEST = "test"


class AdminRole(StrEnum):
    VIEWER = "viewer"
    SUPPORT = "support"
    ADMIN = "admin"


WorldOption = Annotated[World, typer.Option("--environment", help="Which of the two worlds.")]


def _settings() -> Settings:
    """The settings, with logging configured by them. Exits with 3, naming every wrong variable."""
    try:
        settings = load_settings()
    except pydantic.ValidationError as error:
        for problem in error.errors():
            names = ".".join(str(part) for part in problem["loc"]).upper() or "settings"
            typer.echo(f"{names}: {problem['msg']}", err=True)
        raise typer.Exit(UNUSABLE) from None
    configure_logging(level=settings.log_level, json=settings.log_json)
    return settings


def _run(work: Callable[[Database, Settings], Awaitable[Answer]]) -> Answer:
    """Run `work` on a database, and turn what goes wrong into a line and an exit code."""
    settings = _settings()
    return _told(_on_database(settings.database_url, work, settings))


async def _on_database(
    url: pydantic.SecretStr, work: Callable[[Database, Settings], Awaitable[Answer]], settings: Settings
) -> Answer:
    db = Database(url, pool_size=2, timeout_s=settings.database_timeout_s)
    try:
        return await work(db, settings)
    finally:
        await db.close()


def _told(work: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return asyncio.run(work)
    except AppError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(UNUSABLE if error.status == 503 else FAILED) from None
    except Exception as error:
        if getattr(getattr(error, "orig", error), "sqlstate", None) in (UNDEFINED_TABLE, UNDEFINED_COLUMN):
            typer.echo("The database has no schema, or an older one: run `ciris-billing migrate`", err=True)
        elif is_database_unavailable(error):
            reason = str(error).partition("\n")[0]
            typer.echo(f"The database does not answer: {type(error).__name__}: {reason}", err=True)
        else:
            raise
        raise typer.Exit(UNUSABLE) from None


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set | tuple):
        return sorted(str(item) for item in value)
    return value if isinstance(value, str | int | bool | list | None) else str(value)


def _print(rows: Sequence[Mapping[str, Any]], as_json: bool, *, single: bool = False) -> None:
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if as_json:
        typer.echo(json.dumps(plain[0] if single else plain, indent=2))
        return
    for row in plain:
        typer.echo("  ".join(f"{name}={value}" for name, value in row.items() if value not in (None, [])))


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: PORT.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Run the API until SIGTERM; then finish the requests under way."""
    settings = _settings()
    uvicorn.run(
        "app.cli:create_served_app",
        factory=True,
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
    _settings()
    return create_app()


@cli.command()
def worker() -> None:
    """Run background jobs until SIGTERM; then finish those under way."""
    _told(run_worker(_settings()))


@cli.command()
def migrate(revision: Annotated[str, typer.Option(help="Where to.")] = "head") -> None:
    """Bring the database's schema up to date, as its owner (DATABASE_OWNER_URL)."""
    settings = _settings()
    owner = settings.database_owner_url or settings.database_url
    _told(_on_database(owner, lambda db, _: db.ping(), settings))
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", revision]
    raise typer.Exit(FAILED if subprocess.run(command, check=False).returncode else 0)  # noqa: S603  (our own words)


@keys_cli.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="What it is for.")],
    permission: Annotated[list[Permission], typer.Option(help="May be given several times.")],
    environment: WorldOption = World.LIVE,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires. Default: never.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Address or network it may be used from.")] = None,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Requests per minute.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it: its text is shown this once."""

    async def work(db: Database, settings: Settings) -> dict[str, str]:
        now = utc_now()
        async with db.transaction() as tx:
            key = await create_key(
                tx,
                environment=environment.value,
                name=name,
                permissions=frozenset(permission),
                now=now,
                expires_at=now + timedelta(days=days) if days else None,
                ip_allow_list=allow or (),
                rate_limit_per_minute=rate_limit,
            )
        return {"key_id": key.key_id, "api_key": key.secret_text}

    _print([_run(work)], as_json, single=True)


@keys_cli.command("list")
def keys_list(environment: Annotated[World | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """List the keys, newest first, ended ones included."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            keys = await list_keys(session, environment=environment.value if environment else None)
        names = ("key_id", "environment", "name", "permissions", "created_at", "expires_at", "last_used_at")
        now = utc_now()
        return [{"status": key.status(now)} | {name: getattr(key, name) for name in names} for key in keys]

    _print(_run(work), as_json)


@keys_cli.command("rotate")
def keys_rotate(key_id: KeyId, as_json: AsJson = False) -> None:
    """Make a successor and print it; the old key works on for KEY_ROTATION_GRACE_S."""

    async def work(db: Database, settings: Settings) -> dict[str, str]:
        async with db.transaction() as tx:
            key = await rotate_key(tx, key_id, grace_s=settings.key_rotation_grace_s, now=utc_now())
        return {"key_id": key.key_id, "api_key": key.secret_text}

    _print([_run(work)], as_json, single=True)


@keys_cli.command("revoke")
def keys_revoke(key_id: KeyId) -> None:
    """End a key, everywhere within a second."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await revoke_key(tx, key_id, now=utc_now())

    _run(work)


@admins_cli.command("add")
def admins_add(email: str, role: Annotated[AdminRole, typer.Option()] = AdminRole.ADMIN) -> None:
    """Let somebody sign in, or give them another role."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await add_admin(tx, email, role.value, now=utc_now())

    _run(work)


@admins_cli.command("list")
def admins_list(as_json: AsJson = False) -> None:
    """List the admins."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            admins = await list_admins(session)
        return [{name: getattr(a, name) for name in ("email", "role", "created_at", "disabled_at")} for a in admins]

    _print(_run(work), as_json)


@admins_cli.command("remove")
def admins_remove(email: str) -> None:
    """Let somebody sign in no more."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await remove_admin(tx, email, now=utc_now())

    _run(work)


async def _find_account(
    billing: BillingService, world: World, account_id: UUID | None, provider: str | None, external_id: str | None
) -> UUID:
    if account_id is not None:
        await billing.account(world.value, account_id)  # of this world, or AccountNotFound
        return account_id
    if provider is None or external_id is None:
        raise typer.BadParameter("give --account-id, or --provider and --external-id")
    return await billing.find_account_id(Identity(world.value, provider, external_id))


@accounts_cli.command("show")
def accounts_show(
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: WorldOption = World.LIVE,
    as_json: AsJson = False,
) -> None:
    """Show an account: its pools, its status, its person."""

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        billing = BillingService(db, settings)
        found = await _find_account(billing, environment, account_id, provider, external_id)
        return await billing.account(environment.value, found)

    _print([_run(work)], as_json, single=True)


@accounts_cli.command("credit")
def accounts_credit(
    credits: Annotated[int, typer.Argument(min=1, help="Whole credits.")],
    reason: Annotated[str, typer.Option(help="Why; the customer sees it.")],
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: WorldOption = World.LIVE,
    idempotency_key: Annotated[str | None, typer.Option(help="Given again, it credits nothing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grant paid credits."""

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        billing = BillingService(db, settings)
        found = await _find_account(billing, environment, account_id, provider, external_id)
        credit = await billing.credit(
            found,
            credits=Credits(credits),
            currency=None,
            transaction_type="grant",
            actor=OPERATOR,
            now=utc_now(),
            description=reason,
            idempotency_key=idempotency_key,
        )
        names = ("credit_id", "account_id", "credits", "paid_after", "replayed")
        return {name: getattr(credit, name) for name in names}

    _print([_run(work)], as_json, single=True)


def _set_status(
    status: str,
    reason: str | None,
    world: World,
    account_id: UUID | None,
    provider: str | None,
    external_id: str | None,
) -> None:
    async def work(db: Database, settings: Settings) -> None:
        billing = BillingService(db, settings)
        found = await _find_account(billing, world, account_id, provider, external_id)
        await billing.set_status(found, status, reason, utc_now())

    _run(work)


@accounts_cli.command("suspend")
def accounts_suspend(
    reason: Annotated[str, typer.Option(help="Why; the agent hears it.")],
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: WorldOption = World.LIVE,
) -> None:
    """Stop an account from spending."""
    _set_status("suspended", reason, environment, account_id, provider, external_id)


@accounts_cli.command("reopen")
def accounts_reopen(
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: WorldOption = World.LIVE,
) -> None:
    """Let a suspended or closed account spend again."""
    _set_status("active", None, environment, account_id, provider, external_id)


@ledger_cli.command("verify")
def ledger_verify(as_json: AsJson = False) -> None:
    """Prove that every balance is the sum of its movements. Exits with 1 and the first culprit if not."""
    result = _run(lambda db, settings: verify_ledger(db, utc_now()))
    names = ("accounts", "entries", "problem", "started_at", "finished_at")
    _print([{"ok": result.ok, **{name: getattr(result, name) for name in names}}], as_json, single=True)
    raise typer.Exit(0 if result.ok else FAILED)


@payments_cli.command("reconcile")
def payments_reconcile(as_json: AsJson = False) -> None:
    """Ask Stripe about everything that is not settled, and book what is missing. Exits with 1 if some of it failed."""

    async def work(db: Database, settings: Settings) -> dict[str, int]:
        gateway = StripeGateway(settings)
        try:
            return await PaymentService(db, settings, BillingService(db, settings), gateway).reconcile(utc_now())
        finally:
            await gateway.close()

    done = _run(work)
    _print([done], as_json, single=True)
    raise typer.Exit(FAILED if done["failed"] else 0)


@cli.command()
def openapi() -> None:
    """Print the API's description as JSON."""
    settings = Settings.model_construct()
    typer.echo(json.dumps(create_app(settings).openapi(), indent=2))


@cli.command()
def demo(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, envvar="PORT", help="Default: 8000 or the next free one.")
    ] = None,
    state_dir: Annotated[Path, typer.Option(help="Where data, keys and logs are kept.")] = Path("var"),
) -> None:
    """Run everything on this machine, with a local Stripe and a local sign-in provider (`make run`)."""
    from app.demo.run import run_demo  # production images leave the demo's dependencies out

    raise typer.Exit(run_demo(state_dir.resolve(), port))


def main() -> None:
    cli()


if __name__ == "__main__":
    main()
