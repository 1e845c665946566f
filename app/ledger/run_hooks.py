"""Reads the runs and the brake of a batch's accounts before it decides, and stores what has changed after it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any
from uuid import UUID

from app.clock import utc_now
from app.db.statements import Tx
from app.ledger import run_queries
from app.ledger.batching import Accounts, Batcher
from app.ledger.brake import AccountBrake, Brake
from app.ledger.limits import AccountLimits
from app.ledger.run_queries import RunName
from app.ledger.runs import Run
from app.outbox import defer_in_batch

REPORT_BURN_RATE = "report_burn_rate"
"""Name of the task that raises an alert about what the brake has paused."""


async def load_runs(tx: Tx, accounts: Accounts, names: Iterable[tuple[UUID, str | None]]) -> None:
    """Read runs (account, run id) of locked accounts with their ancestors: one statement, or none.

    Accounts without limits are left out, and runs that this transaction has looked up before.
    """
    if unknown := take_unknown_runs(accounts, names):
        add_runs(accounts, await run_queries.find_with_ancestors(tx, unknown))


def take_unknown_runs(accounts: Accounts, names: Iterable[tuple[UUID, str | None]]) -> list[RunName]:
    """Return the names of runs that this transaction has not looked up yet, and mark them as looked up."""
    unknown: list[RunName] = []
    for account_id, run_id in names:
        account = accounts.get(account_id)
        if run_id is None or account is None or account.limits is None or not account.has_limits:
            continue
        if run_id not in account.limits.runs.looked_up:
            account.limits.runs.looked_up.add(run_id)
            unknown.append(RunName(account_id, run_id))
    return unknown


def add_runs(accounts: Accounts, runs: Iterable[Run]) -> None:
    """Add runs that were looked up to their accounts."""
    for run in runs:
        limits = accounts[run.account_id].limits
        assert limits is not None
        limits.runs.add(run)


class RunHooks:
    """Part of each transaction of the batcher. Add it after the hooks of limits.

    `find_brake` returns the configured burn rate. None: the brake is off, and costs no statement.
    """

    def __init__(self, batcher: Batcher, zone: tzinfo, find_brake: Callable[[], Awaitable[Brake | None]]) -> None:
        self._zone = zone
        self._find_brake = find_brake
        batcher.before_deciding(self._load)
        batcher.after_deciding(self._store)

    async def _load(self, tx: Tx, accounts: Accounts, requests: Sequence[Any]) -> None:
        brake = await self._find_brake() if accounts else None
        if brake is not None:
            await self._load_brake(tx, accounts, brake)
        elif all(account.limits is None for account in accounts.values()):
            return
        await load_runs(
            tx, accounts, ((request.account_id, run_id) for request in requests for run_id in request.run_ids)
        )

    async def _load_brake(self, tx: Tx, accounts: Accounts, brake: Brake) -> None:
        now = utc_now()
        brakes = {account_id: AccountBrake(account_id, brake, now) for account_id in accounts}
        for account_id, account in accounts.items():
            if account.limits is None:
                account.limits = AccountLimits(now, self._zone)
            account.limits.brake = brakes[account_id]
        for use in await run_queries.find_key_uses(tx, list(accounts), now.replace(second=0, microsecond=0)):
            brakes[use.account_id].add(use)

    async def _store(self, tx: Tx, accounts: Accounts) -> None:
        limited = [(account, account.limits) for account in accounts.values() if account.limits is not None]
        if not limited:
            return
        now = utc_now()
        brakes = [(account, limits.brake) for account, limits in limited if limits.brake is not None]
        if changed := [run for _, limits in limited for run in limits.runs.changed()]:
            await run_queries.store_spent(tx, changed, now, is_braked=bool(brakes))
        if uses := [use for _, brake in brakes for use in brake.keys.values() if use.is_changed]:
            await run_queries.store_key_uses(tx, uses)
        for account, brake in brakes:
            for braked in brake.braked:
                facts = {"environment": account.environment, "account_id": str(account.account_id)}
                finding = {name: getattr(braked, name) for name in ("subject", "unit", "observed", "most")}
                await defer_in_batch(tx, REPORT_BURN_RATE, {**facts, **finding}, now)
