"""Asks persons about runs that refuse, before the transaction that refused commits."""

from collections.abc import Sequence
from datetime import datetime

from app.clock import utc_now
from app.db.statements import Tx
from app.ledger import approval_queries as queries
from app.ledger.approvals import Approval, Kind, ask, new_approval
from app.ledger.batching import Accounts, Batcher
from app.ledger.limits import Spending, name_approval
from app.ledger.runs import RunBudgetExceeded, RunPaused


class ApprovalHooks:
    """Part of each transaction of the batcher. Only a transaction in which a run refused something pays for it.

    The refusals are completed before their callers get them: an outcome is delivered after the commit.
    """

    def __init__(self, batcher: Batcher) -> None:
        batcher.after_deciding(self._ask)

    async def _ask(self, tx: Tx, accounts: Accounts) -> None:
        refused = [
            (refusal, spending)
            for account in accounts.values()
            if account.limits is not None
            for refusal, spending in account.limits.refused_runs
            if isinstance(refusal, RunPaused | RunBudgetExceeded)
        ]
        if not refused:
            return
        now = utc_now()
        known = await queries.find_of_runs(tx, list({refusal.run.account_id for refusal, _ in refused}), now)
        _complete(known, refused, now)
        await queries.store(tx, known)


def _complete(
    known: list[Approval], refused: Sequence[tuple[RunPaused | RunBudgetExceeded, Spending]], now: datetime
) -> None:
    for refusal, spending in refused:
        kind: Kind = "resume"
        unit, amount = spending.unit, max(1, spending.amount)
        if isinstance(refusal, RunBudgetExceeded):
            kind, amount = "budget", refusal.missing
        run = refusal.run
        new = new_approval(kind, run.account_id, run.run_uuid, unit, amount, spending, now)
        approval = ask(known, new, now)
        if approval is not None:
            name_approval(refusal, approval)
