"""`ciris-billing ledger` and `ciris-billing payments`: verify the ledger, create signing keys, reconcile payments."""

import json

import typer

from app.billing.service import BillingService
from app.cli.output import AsJson, progress, show
from app.cli.running import FAILED, run
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.payments.reconciliation_tally import Attempts
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings
from app.signing_keys import new_signing_key
from app.subscriptions.wiring import subscription_services
from app.verification import verify_books

ledger_cli = typer.Typer(help="The ledger.", no_args_is_help=True)
payments_cli = typer.Typer(help="Payments.", no_args_is_help=True)


@ledger_cli.command("verify")
def ledger_verify(as_json: AsJson = False) -> None:
    """Verify that every balance is the sum of its movements, that no movement was changed since it was hashed, and that
    every report's sums match. Exits with 1 and the first culprit if not."""
    with progress("Verifying the ledger") as advance:
        result = run(lambda db, settings: verify_books(db, utc_now(), advance))
    names = ("accounts", "entries", "problem", "started_at", "finished_at")
    show([{"ok": result.ok, **{name: getattr(result, name) for name in names}}], as_json, single=True)
    raise typer.Exit(0 if result.ok else FAILED)


@ledger_cli.command("new-key")
def ledger_new_key() -> None:
    """Print a new key pair that signs statements, as a value of SIGNING_KEYS. It is a secret and is stored nowhere."""
    typer.echo(json.dumps([new_signing_key()]))


@payments_cli.command("reconcile")
def payments_reconcile(as_json: AsJson = False) -> None:
    """Reconcile everything unsettled with Stripe, and book what is missing. Exits with 1 if any of it failed."""

    async def work(db: Database, settings: Settings) -> dict[str, int]:
        configuration = Configuration(db, settings)
        gateway = StripeGateway(settings, configuration)
        try:
            billing = BillingService(db, configuration)
            attempts = Attempts(on_attempt=lambda attempted: advance(attempted, None))
            books, subscriptions = subscription_services(db, configuration, billing.accounts, gateway)
            done = await PaymentService(db, configuration, billing, gateway, books).reconcile(utc_now(), attempts)
            await subscriptions.refresher.look_at_orders(utc_now())
            await subscriptions.refresher.look_at_due(utc_now())
            return done
        finally:
            await gateway.close()

    with progress("Asking the payment provider") as advance:
        done = run(work)
    show([done], as_json, single=True)
    raise typer.Exit(FAILED if done["failed"] else 0)
