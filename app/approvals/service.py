"""ApprovalService: lists approvals, and records what a person decides. The batcher asks for and uses them.

A decision locks the account, so it does not cross with a request that asks for more, or uses what was allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.approvals.errors import ApprovalClosed, ApprovalNotFound
from app.auth.caller import Actor, Environment
from app.db import Database, Session, opaque_ids
from app.ledger import approval_queries as queries
from app.ledger.approval_queries import Place, Stored
from app.ledger.approvals import PREFIX
from app.ledger.locked_account import lock_accounts
from app.ledger.pools import CREDIT
from app.ledger.runs import MAX_COUNT
from app.runs.service import Budget, RunChange, RunService

Shown = Literal["open", "all"]
MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of a person. `allowed` None denies; an amount is in the unit of the approval."""

    allowed: int | None
    valid_for: timedelta


def place_of(wire_id: str) -> Place:
    """Return the place that an id names. Raises ApprovalNotFound for any other text."""
    if (found := opaque_ids.decode(PREFIX, wire_id)) is None:
        raise ApprovalNotFound
    return Place(*found)


class ApprovalService:
    """One per process. A method whose name ends in `_in` is part of the caller's transaction."""

    def __init__(self, db: Database, accounts: AccountService, runs: RunService) -> None:
        self._db = db
        self._accounts = accounts
        self._runs = runs

    async def find(self, environment: Environment | None, place: Place) -> Stored:
        """Return an approval as it is now. `environment` None: any. Raises ApprovalNotFound."""
        found = await queries.find_approval(self._db, place)
        if found is None or environment not in (None, found.environment):
            raise ApprovalNotFound
        return found

    async def list_of(self, identity: Identity, show: Shown, now: datetime) -> Sequence[Stored]:
        """Return the newest approvals of a user. An unknown user has none."""
        account_id = await self._accounts.directory.find(identity)
        if account_id is None:
            return []
        return await self.list_all(now, account_id=account_id, show=show, limit=MAX_LISTED)

    async def list_all(
        self, now: datetime, *, account_id: UUID | None, show: Shown, limit: int, before: UUID | None = None
    ) -> Sequence[Stored]:
        """Return approvals of one account or of all, newest first."""
        async with self._db.read() as db:
            return await queries.list_approvals(db, now, account_id=account_id, show=show, limit=limit, before=before)

    async def decide(
        self,
        environment: Environment,
        place: Place,
        decision: Decision,
        actor: Actor,
        now: datetime,
        *,
        of_account: UUID | None = None,
    ) -> Stored:
        """As `decide_in`, in a transaction. Raises ApprovalNotFound for another account's, if `of_account`."""
        if of_account not in (None, place.account_id):
            raise ApprovalNotFound
        async with self._db.transaction() as tx:
            approval, _ = await self.decide_in(tx, environment, place, decision, actor, now)
        return approval

    async def decide_in(
        self,
        tx: Session,
        environment: Environment | None,
        place: Place,
        decision: Decision,
        actor: Actor,
        now: datetime,
    ) -> tuple[Stored, bool]:
        """Approve or deny a pending approval. Return it, and whether this call decided it.

        A run continues, or has a higher budget, at once. The same decision again changes nothing. Locks the account
        until commit. Raises ApprovalNotFound, RunEnded for a closed run, and ApprovalClosed if it has expired, was used
        or was decided otherwise.
        """
        await lock_accounts(tx, [place.account_id])
        found = await queries.find_approval_in(tx, place)
        if found is None or environment not in (None, found.environment):
            raise ApprovalNotFound
        verdict = "denied" if decision.allowed is None else "approved"
        status = found.status_at(now)
        if status == verdict and found.allowed == decision.allowed:
            return found, False
        if status != "pending":
            raise ApprovalClosed(status)
        await queries.decide(
            tx,
            place,
            status=verdict,
            allowed=decision.allowed,
            expires_at=found.expires_at if decision.allowed is None else now + decision.valid_for,
            actor=actor,
            now=now,
        )
        if decision.allowed is not None and found.run_uuid is not None:
            await self._allow_run(tx, found, found.run_uuid, decision.allowed, now)
        decided = await queries.find_approval_in(tx, place)
        assert decided is not None
        return decided, True

    async def _allow_run(self, tx: Session, found: Stored, run_uuid: UUID, allowed: int, now: datetime) -> None:
        """End the pause of a run, or raise its budget by the allowed amount."""
        change = RunChange(status="open")
        if found.kind == "budget":
            run = await self._runs.find_in(tx, found.account_id, run_uuid)
            budget = Budget(min((run["budget"] or 0) + allowed, MAX_COUNT), is_money=found.unit != CREDIT)
            change = RunChange(has_budget=run["budget"] is not None, budget=budget)
        await self._runs.change_in(tx, found.account_id, run_uuid, change, now)
