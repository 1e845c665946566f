"""`ciris-billing ledger` and `ciris-billing payments`: verify the ledger, reconcile payments."""

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
from app.verification import verify_books

ledger_cli = typer.Typer(help="The ledger.", no_args_is_help=True)
payments_cli = typer.Typer(help="Payments.", no_args_is_help=True)


@ledger_cli.command("verify")
def ledger_verify(as_json: AsJson = False) -> None:
    """Verify that every balance is the sum of its movements, and that every report's sums match. Exits with 1 and the
    first culprit if not."""
    with progress("Verifying the ledger") as advance:
        result = run(lambda db, settings: verify_books(db, utc_now(), advance))
    names = ("accounts", "entries", "problem", "started_at", "finished_at")
    show([{"ok": result.ok, **{name: getattr(result, name) for name in names}}], as_json, single=True)
    raise typer.Exit(0 if result.ok else FAILED)


@payments_cli.command("reconcile")
def payments_reconcile(as_json: AsJson = False) -> None:
    """Reconcile everything unsettled with Stripe, and book what is missing. Exits with 1 if any of it failed."""

    async def work(db: Database, settings: Settings) -> dict[str, int]:
        configuration = Configuration(db, settings)
        gateway = StripeGateway(settings, configuration)
        try:
            billing = BillingService(db, configuration)
            attempts = Attempts(on_attempt=lambda attempted: advance(attempted, None))
            return await PaymentService(db, configuration, billing, gateway).reconcile(utc_now(), attempts)
        finally:
            await gateway.close()

    with progress("Asking the payment provider") as advance:
        done = run(work)
    show([done], as_json, single=True)
    raise typer.Exit(FAILED if done["failed"] else 0)
