"""Verification of the books: composes the proofs of all packages and runs them.

    verification = await verify_books(db, utc_now())

A package that owns tables exports a `PROOF` from its `checks.py`, and is listed here. The worker runs this hourly, and
`ciris-billing ledger verify` on demand.
"""

from collections.abc import Callable
from datetime import datetime

from app.accounts.checks import PROOF as ACCOUNTS
from app.analytics.checks import PROOF as ANALYTICS
from app.billing.checks import PROOF as BILLING
from app.cost_records.checks import PROOF as COST_RECORDS
from app.db import Database
from app.holds.checks import PROOF as HOLDS
from app.ledger.verification import Verification, verify_ledger
from app.limits.checks import PROOF as LIMITS
from app.metering.checks import PROOF as METERING
from app.payments.checks import PROOF as PAYMENTS
from app.receipts.checks import PROOF as RECEIPTS
from app.subscriptions.checks import PROOF as SUBSCRIPTIONS
from app.tools.checks import PROOF as TOOLS
from app.wallet.checks import PROOF as WALLET

PROOFS = (
    *(BILLING, METERING, COST_RECORDS, HOLDS, LIMITS, TOOLS),
    *(PAYMENTS, SUBSCRIPTIONS, WALLET, ACCOUNTS, RECEIPTS, ANALYTICS),
)


async def verify_books(
    db: Database, now: datetime, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Run every check of every package in one snapshot, and record the outcome. See `verify_ledger`."""
    return await verify_ledger(db, now, PROOFS, on_progress)
