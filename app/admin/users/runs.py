"""`/admin/users/{account_id}/runs` and `/paused-keys`: an account's runs, their receipts, and the end of pauses."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from app.admin.dependencies import Db, ReportRoute, Support, Viewer
from app.admin.schemas import Reason, ReasonBody
from app.admin.users.router import CHANGE, NOT_FOUND, find_user, require_anonymous
from app.http.schemas import ERRORS, Key255, Reply, Timestamp
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT
from app.runs.receipt import Row
from app.runs.schemas import ReceiptReply, RunChangeFields, RunReply
from app.runs.service import RunService

router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)
WITHOUT_KEY = "-"
"""In paths: spending by the user's own token, which has no key."""


async def run_service(request: Request) -> RunService:
    service: RunService = request.app.state.runs
    return service


Runs = Annotated[RunService, Depends(run_service)]


class AccountRun(RunReply):
    run_uuid: UUID = Field(description="Of the run in the routes of the back office.")


class AccountRunsReply(Reply):
    runs: list[AccountRun]
    next_cursor: UUID | None


class AccountRunBody(RunChangeFields):
    reason: Reason


class PausedKey(Reply):
    key_id: str | None = Field(description="null: the user's own token.")
    paused_at: Timestamp


class PausedKeysReply(Reply):
    keys: list[PausedKey]


class ResumedReply(Reply):
    resumed: bool = Field(description="False: it was not paused.")


@router.get("/{account_id}/runs", responses=NOT_FOUND)
async def list_account_runs(
    account_id: UUID,
    admin: Viewer,
    db: Db,
    runs: Runs,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> AccountRunsReply:
    """List the account's runs, newest first, with their budgets and what they have spent."""
    await find_user(db, account_id)
    rows = await runs.list_of_account(account_id, cursor, limit + 1)
    found = [_run(row) for row in rows[:limit]]
    return AccountRunsReply(runs=found, next_cursor=found[-1].run_uuid if len(rows) > limit else None)


@router.get("/{account_id}/runs/{run_uuid}", responses=NOT_FOUND)
async def get_account_run(account_id: UUID, run_uuid: UUID, admin: Viewer, db: Db, runs: Runs) -> ReceiptReply:
    """Return the receipt of a run, as `GET /v1/billing/runs/{run_id}` does."""
    await find_user(db, account_id)
    return ReceiptReply.of_receipt(await runs.receipt_of(account_id, run_uuid))


@router.patch("/{account_id}/runs/{run_uuid}", responses=CHANGE)
async def change_account_run(
    account_id: UUID, run_uuid: UUID, body: AccountRunBody, admin: Support, db: Db, runs: Runs
) -> AccountRun:
    """Set a run's budget, pause, resume or close it."""
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    async with db.transaction() as tx:
        before, after = await runs.change_in(tx, account_id, run_uuid, body.change(), admin.now)
        if _facts(before) != _facts(after):
            await admin.record(
                tx,
                "account.change_run",
                "account",
                account_id,
                environment=user["environment"],
                before=_facts(before),
                after=_facts(after) | {"run_uuid": run_uuid},
                reason=body.reason,
            )
    return _run(after)


@router.get("/{account_id}/paused-keys", responses=NOT_FOUND)
async def list_paused_keys(account_id: UUID, admin: Viewer, db: Db, runs: Runs) -> PausedKeysReply:
    """List the API keys whose use by this account the burn-rate brake has paused."""
    await find_user(db, account_id)
    rows = await runs.paused_keys(account_id)
    return PausedKeysReply(keys=[PausedKey(key_id=row["key_id"] or None, paused_at=row["paused_at"]) for row in rows])


@router.post("/{account_id}/paused-keys/{key_id}/resume", responses=CHANGE)
async def resume_paused_key(
    account_id: UUID,
    key_id: Annotated[Key255, Path(description="`-`: the user's own token.")],
    body: ReasonBody,
    admin: Support,
    db: Db,
    runs: Runs,
) -> ResumedReply:
    """Let the account use an API key again."""
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    async with db.transaction() as tx:
        resumed = await runs.resume_key_in(tx, account_id, "" if key_id == WITHOUT_KEY else key_id, admin.now)
        if resumed:
            await admin.record(
                tx,
                "account.resume_key",
                "account",
                account_id,
                environment=user["environment"],
                after={"key_id": key_id},
                reason=body.reason,
            )
    return ResumedReply(resumed=resumed)


def _run(row: Row) -> AccountRun:
    return AccountRun.of(row, run_uuid=row["run_uuid"])


def _facts(run: Row) -> dict[str, Any]:
    """Return what an admin can change of a run, for the audit log. Its name is a caller's text, and is left out."""
    unit, budget = run["unit"], run["budget"]
    amount = None if unit is None else budget if unit == CREDIT else decimal_text(budget)
    return {"status": run["status"], "unit": unit, "budget": amount}
