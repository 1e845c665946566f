"""Starts refills from spending, and ends them with the account's use: outbox rows of the transaction that causes them.

An account without refills costs a comparison per transaction, and no statement. Any number of accounts with too little
money cost one statement, as long as no decision is new.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.clock import utc_now
from app.db.statements import Tx
from app.ledger import refill_queries as queries
from app.ledger.batching import Accounts, Batcher
from app.ledger.refill_queries import OffReason
from app.observability.metrics import REFILLS_SWITCHED_OFF
from app.outbox import defer_in_batch

START_REFILL = "start_refill"
"""Name of the task that decides whether to refill an account's money now."""
log = structlog.get_logger()


class RefillHooks:
    """Part of each transaction of the batcher: spending that leaves too little money schedules a decision.

    An account has one waiting decision at most, so a busy account enqueues one job, not one per request. Money that
    became less in another way, such as by an expired grant, is found by the worker's periodic job.
    """

    def __init__(self, batcher: Batcher) -> None:
        batcher.before_deciding(self._note_money)
        batcher.after_deciding(self._schedule)

    async def _note_money(self, tx: Tx, accounts: Accounts, requests: Sequence[Any]) -> None:
        for account in accounts.values():
            if account.refill_below_nanos is not None:
                account.money_before = account.money_remaining(utc_now())

    async def _schedule(self, tx: Tx, accounts: Accounts) -> None:
        now = utc_now()
        missing: list[tuple[UUID, int]] = []
        for account in accounts.values():
            if account.refill_below_nanos is None or account.money_before is None:
                continue
            left = account.money_remaining(now)
            if left < account.refill_below_nanos and left < account.money_before:
                missing.append((account.account_id, account.balances["money_debt"] - left))
        if not missing:
            return
        for account_id in await queries.schedule(tx, missing, now):
            await defer_in_batch(tx, START_REFILL, {"account_id": str(account_id)}, now)


async def end_refills(tx: Tx, account_id: UUID, reason: OffReason, now: datetime) -> None:
    """Switch off the refills of a locked account: it was suspended or closed, a payment was disputed or declined."""
    if await queries.switch_off(tx, account_id, reason, now):
        REFILLS_SWITCHED_OFF.labels(reason).inc()
        log.warning("refills_switched_off", account_id=str(account_id), reason=reason)
