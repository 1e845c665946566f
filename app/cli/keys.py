"""`ciris-billing keys`: create, list, rotate and revoke API keys."""

import re
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from app.auth.api_keys.keys import UsageTerms
from app.auth.api_keys.service import create_key, list_keys, revoke_key, rotate_key
from app.auth.api_keys.usage_terms import require_readable
from app.auth.caller import Permission
from app.cli.output import AsJson, show
from app.cli.running import EnvironmentChoice, EnvironmentOption, run
from app.clock import utc_now
from app.db import Database
from app.settings import Settings

keys_cli = typer.Typer(help="API keys.", no_args_is_help=True)

LISTED = (
    *("key_id", "environment", "name", "permissions", "client_subject", "created_at", "expires_at"),
    "last_used_at",
)


class PolicyChoice(StrEnum):
    REFUSE = "refuse"
    DEBT = "debt"


def _nanos(amount: str) -> int:
    """Return an amount such as `12.50` in billionths."""
    if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,9})?", amount) is None:
        raise typer.BadParameter(f"{amount!r} is not an amount below 10 million with at most 9 decimals")
    return int(Decimal(amount).scaleb(9))


class DoubleChargesChoice(StrEnum):
    IGNORE = "ignore"
    FLAG = "flag"
    REFUSE = "refuse"


Days = Annotated[int | None, typer.Option(min=1, max=36_500, help="Days until it expires. Default: never.")]
KeyId = Annotated[str, typer.Argument(help="The key's public id, from `keys list`.")]


@keys_cli.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="Purpose of the key.")],
    permission: Annotated[list[Permission], typer.Option(help="May be given several times.")],
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
    days: Days = None,
    allow: Annotated[list[str] | None, typer.Option(help="Address or network that may use the key.")] = None,
    client_subject: Annotated[
        str | None, typer.Option(help="Subject of the required client certificate: CN=agent-7,O=CIRIS")
    ] = None,
    rate_limit: Annotated[int | None, typer.Option(min=1, help="Requests per minute.")] = None,
    identity_provider: Annotated[
        str | None, typer.Option(help="Provider of the users that `user_id` names: oauth:zero. Default: none.")
    ] = None,
    event_source: Annotated[
        str | None, typer.Option(help="Source of usage events, also after rotations. Default: api-key:<key id>.")
    ] = None,
    usage_policy: Annotated[PolicyChoice, typer.Option(help="For usage without enough money.")] = PolicyChoice.REFUSE,
    debt_limit: Annotated[
        int | None,
        typer.Option(parser=_nanos, metavar="AMOUNT", help="Most debt by usage, in the account's currency: 5.00."),
    ] = None,
    max_cost: Annotated[
        int | None,
        typer.Option(parser=_nanos, metavar="AMOUNT", help="Largest cost that it may state for one event: 0.50."),
    ] = None,
    double_charges: Annotated[
        DoubleChargesChoice,
        typer.Option(help="For charges that repeat an earlier one by another idempotency key."),
    ] = DoubleChargesChoice.IGNORE,
    as_json: AsJson = False,
) -> None:
    """Create an API key and print it; it is shown only once."""

    async def work(db: Database, settings: Settings) -> dict[str, str]:
        now = utc_now()
        usage = UsageTerms(identity_provider, event_source, usage_policy.value, debt_limit, max_cost)
        await require_readable(db, permission, usage, double_charges.value)
        async with db.transaction() as tx:
            key = await create_key(
                tx,
                environment=environment.value,
                name=name,
                permissions=frozenset(permission),
                now=now,
                expires_at=now + timedelta(days=days) if days else None,
                ip_allow_list=allow or (),
                client_subject=client_subject,
                rate_limit_per_minute=rate_limit,
                usage=usage,
                double_charges=double_charges.value,
            )
        return {"key_id": key.key_id, "api_key": key.secret_text}

    show([run(work)], as_json, single=True)


@keys_cli.command("list")
def keys_list(environment: Annotated[EnvironmentChoice | None, typer.Option()] = None, as_json: AsJson = False) -> None:
    """List the keys, newest first, including ended ones."""

    async def work(db: Database, settings: Settings) -> list[dict[str, Any]]:
        async with db.read() as session:
            keys = await list_keys(session, environment=environment.value if environment else None)
        now = utc_now()
        rows = [{"status": key.status(now)} | {name: getattr(key, name) for name in LISTED} for key in keys]
        if not as_json:  # a terminal has no room for more columns
            return rows
        return [
            row | asdict(key.usage) | {"event_source": key.source, "double_charges": key.double_charges}
            for row, key in zip(rows, keys, strict=True)
        ]

    show(run(work), as_json)


@keys_cli.command("rotate")
def keys_rotate(key_id: KeyId, as_json: AsJson = False) -> None:
    """Create a successor and print it; the old key works for another KEY_ROTATION_GRACE_S."""

    async def work(db: Database, settings: Settings) -> dict[str, str]:
        async with db.transaction() as tx:
            key = await rotate_key(tx, key_id, grace_s=settings.key_rotation_grace_s, now=utc_now())
        return {"key_id": key.key_id, "api_key": key.secret_text}

    show([run(work)], as_json, single=True)


@keys_cli.command("revoke")
def keys_revoke(key_id: KeyId) -> None:
    """Revoke a key, everywhere within a second."""

    async def work(db: Database, settings: Settings) -> None:
        async with db.transaction() as tx:
            await revoke_key(tx, key_id, now=utc_now())

    run(work)
