"""`/admin/users/{account_id}`, the legal rights of a person: a copy of their data, and erasure."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from app.accounts.erasure import erase_person
from app.admin.dependencies import Administrator, Db, Support
from app.admin.users.personal_data_export import export_account
from app.admin.users.router import NOT_FOUND, find_user, require_anonymous
from app.admin.users.schemas import EraseBody, UserRow
from app.auth.guarded_route import GuardedRoute
from app.errors import InvalidRequest
from app.http.schemas import ERRORS

FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/json": {"schema": {"type": "object"}}},
        "description": "A file to hand over to the person",
    }
}
router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=GuardedRoute)


@router.get("/{account_id}/export", response_class=StreamingResponse, responses={**NOT_FOUND, **FILE})
async def export_user(account_id: UUID, admin: Support, db: Db) -> StreamingResponse:
    """Export all data of the account's person as JSON. The request is recorded in the audit log."""
    row = await find_user(db, account_id)
    async with db.transaction() as tx:
        await admin.record(tx, "account.export", "account", account_id, environment=row["environment"])
    headers = {"Content-Disposition": f'attachment; filename="account-{account_id}.json"', "Cache-Control": "no-store"}
    return StreamingResponse(export_account(db, account_id, admin.now), media_type="application/json", headers=headers)


@router.post("/{account_id}/erase", responses=NOT_FOUND)
async def erase_user(account_id: UUID, body: EraseBody, admin: Administrator, db: Db) -> UserRow:
    """Erase the account's person and close the account permanently; the books stay. Irreversible and idempotent.

    Personal data is gone with this answer. Callers' texts on charges follow within a minute, by the worker. For the
    data at the payment provider see docs/back-office-erasure.md.
    """
    row = await find_user(db, account_id)
    if body.confirm not in (row["external_id"], str(account_id)):
        raise InvalidRequest("confirm must repeat the account's external id or its account id", field="confirm")
    require_anonymous(body.reason, row)
    async with db.transaction() as tx:
        environment = await erase_person(tx, account_id, admin.now)
        if environment is not None:
            await admin.record(
                tx,
                "account.erase",
                "account",
                account_id,
                environment=environment,
                before={"status": row["status"]},
                after={"status": "closed", "erased_at": admin.now},
                reason=body.reason,
            )
    after = await find_user(db, account_id)
    return UserRow(**{name: after[name] for name in UserRow.model_fields})
