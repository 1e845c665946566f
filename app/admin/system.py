"""`/admin/system`: is everything that should run running?"""

from datetime import timedelta

from fastapi import APIRouter, Request

from app.admin import reports
from app.admin.dependencies import Db, Viewer
from app.admin.schemas import LedgerReply, QueueReply, SystemReply, WebhooksReply
from app.billing.router import ERRORS
from app.billing.verify import last_verification

router = APIRouter(prefix="/admin/system", tags=["admin: system"], responses=ERRORS)


@router.get("")
async def get_system(request: Request, admin: Viewer, db: Db) -> SystemReply:
    """Database, worker, job queue, webhooks and the last verification of the ledger."""
    async with db.read() as session:
        row = await reports.find_system(session, admin.now)
        webhooks = await reports.list_webhooks(session, admin.now - timedelta(days=1))
    last = await last_verification(db)
    ledger = None
    if last is not None:
        names = ("finished_at", "ok", "accounts", "entries", "problem")
        ledger = LedgerReply(**{name: getattr(last, name) for name in names})
    return SystemReply(
        version=request.app.version,
        now=admin.now,
        database=row["database"],
        migration=row["migration"],
        worker_seen_at=row["worker_seen_at"],
        queue=QueueReply(waiting=row["waiting"], failed=row["failed"], oldest_waiting_at=row["oldest_waiting_at"]),
        webhooks=[WebhooksReply(**webhook) for webhook in webhooks],
        ledger=ledger,
        paid_but_not_credited=row["paid_but_not_credited"],
        for_review=row["for_review"],
    )
