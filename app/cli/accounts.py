"""`ciris-billing accounts`: show, credit, suspend and reopen accounts."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from app.accounts.directory import Identity
from app.admin.audit.log import record_by_system
from app.auth.caller import Actor
from app.billing.service import BillingService
from app.cli.output import AsJson, show
from app.cli.running import EnvironmentChoice, EnvironmentOption, run
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.pools import Credits
from app.settings import Settings

accounts_cli = typer.Typer(help="Show and correct a customer's account.", no_args_is_help=True)


class Switch(StrEnum):
    ON = "on"
    OFF = "off"


OPERATOR = Actor("system", "ciris-billing")
AccountId = Annotated[UUID | None, typer.Option("--account-id", help="The account id; or")]
Provider = Annotated[str | None, typer.Option(help="its identity: the provider, such as oauth:google,")]
ExternalId = Annotated[str | None, typer.Option(help="and the user's id there.")]


async def _find_account(
    billing: BillingService,
    environment: EnvironmentChoice,
    account_id: UUID | None,
    provider: str | None,
    external_id: str | None,
) -> UUID:
    if account_id is not None:
        await billing.accounts.account(
            environment.value, account_id, utc_now()
        )  # raises AccountNotFound in the other environment
        return account_id
    if provider is None or external_id is None:
        raise typer.BadParameter("give --account-id, or --provider and --external-id")
    return await billing.accounts.find_account_id(Identity(environment.value, provider, external_id))


@accounts_cli.command("show")
def accounts_show(
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
    as_json: AsJson = False,
) -> None:
    """Show an account: its pools, status and person."""

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        billing = BillingService(db, Configuration(db, settings))
        found = await _find_account(billing, environment, account_id, provider, external_id)
        return await billing.accounts.account(environment.value, found, utc_now())

    show([run(work)], as_json, single=True)


@accounts_cli.command("credit")
def accounts_credit(
    credits: Annotated[int, typer.Argument(min=1, help="Whole credits.")],
    reason: Annotated[str, typer.Option(help="Reason; visible to the customer.")],
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
    idempotency_key: Annotated[str | None, typer.Option(help="A repeated key credits nothing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grant paid credits."""

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        billing = BillingService(db, Configuration(db, settings))
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

    show([run(work)], as_json, single=True)


def _set_status(
    status: str,
    reason: str | None,
    environment: EnvironmentChoice,
    account_id: UUID | None,
    provider: str | None,
    external_id: str | None,
) -> None:
    async def work(db: Database, settings: Settings) -> None:
        billing = BillingService(db, Configuration(db, settings))
        found = await _find_account(billing, environment, account_id, provider, external_id)
        await billing.accounts.set_status(found, status, reason, utc_now())

    run(work)


@accounts_cli.command("suspend")
def accounts_suspend(
    reason: Annotated[str, typer.Option(help="Reason; visible to the agent.")],
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
) -> None:
    """Suspend an account: it cannot spend."""
    _set_status("suspended", reason, environment, account_id, provider, external_id)


@accounts_cli.command("reopen")
def accounts_reopen(
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
) -> None:
    """Reopen a suspended or closed account, so that it can spend again."""
    _set_status("active", None, environment, account_id, provider, external_id)


@accounts_cli.command("billing")
def accounts_billing(
    state: Annotated[Switch, typer.Argument(help="`off`: usage is recorded and priced, and never charged.")],
    reason: Annotated[str, typer.Option(help="Reason; kept in the audit log. Must not name the user.")],
    account_id: AccountId = None,
    provider: Provider = None,
    external_id: ExternalId = None,
    environment: EnvironmentOption = EnvironmentChoice.LIVE,
    as_json: AsJson = False,
) -> None:
    """Set whether an account's metered usage is charged."""
    enabled = state is Switch.ON

    async def work(db: Database, settings: Settings) -> dict[str, Any]:
        billing = BillingService(db, Configuration(db, settings))
        found = await _find_account(billing, environment, account_id, provider, external_id)
        now = utc_now()
        async with db.transaction() as tx:
            before = await billing.accounts.set_billing_in(tx, found, enabled, now)
            if before != enabled:
                await record_by_system(
                    tx,
                    "account.set_billing",
                    "account",
                    found,
                    environment=environment.value,
                    after={"billing_enabled": enabled},
                    reason=reason,
                    now=now,
                    address="ciris-billing",
                )
        return {"account_id": found, "billing_enabled": enabled, "before": before}

    show([run(work)], as_json, single=True)
