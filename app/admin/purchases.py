"""`/admin/purchases`: what was sold, what Stripe said about it, and giving money back."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, Field

from app.admin import reconciliation, reports
from app.admin.audit import record_export
from app.admin.csv_export import csv_file
from app.admin.dependencies import Administrator, Db, ReportDb, ReportRoute, Support, Viewer
from app.admin.queries import Row
from app.admin.reports import View
from app.admin.schemas import (
    PAGE,
    BookedReply,
    DisputeReply,
    Pasted,
    PaymentEventReply,
    PurchaseReply,
    PurchaseRow,
    PurchasesReply,
    ReconciliationReply,
    RefundBody,
)
from app.auth.caller import Environment
from app.billing.router import ERRORS
from app.billing.schemas import ErrorReply
from app.db import Database
from app.payments.errors import PaymentNotFound
from app.payments.facts import PurchaseStatus
from app.payments.router import Payments

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
router = APIRouter(prefix="/admin/purchases", tags=["admin: purchases"], responses=ERRORS, route_class=ReportRoute)


class Filters(BaseModel):
    environment: Environment | None = None
    status: PurchaseStatus | None = None
    account_id: UUID | None = None
    payment_id: Pasted | None = None
    view: View | None = Field(default=None, description="Purchases that should not be there.")


class Page(Filters):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: UUID | None = None


@router.get("")
async def list_purchases(admin: Viewer, db: ReportDb, wanted: Annotated[Page, Query()]) -> PurchasesReply:
    """Newest first. The views are normally empty: `for_review` is money that did not arrive as agreed."""
    filters, limit = wanted.model_dump(exclude=PAGE), wanted.limit
    async with db.read() as session:
        rows = await reports.list_purchases(session, before=wanted.cursor, limit=limit + 1, **filters)
    purchases = [PurchaseRow(**row) for row in rows[:limit]]
    return PurchasesReply(purchases=purchases, next_cursor=purchases[-1].purchase_id if len(rows) > limit else None)


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_purchases(admin: Support, db: ReportDb, primary: Db, wanted: Annotated[Filters, Query()]) -> Response:
    """All purchases that match, newest first, as a file for a spreadsheet. Amounts are in minor units.

    The export is in the audit log.
    """

    async def next_page(last: Row | None, limit: int) -> Sequence[Row]:
        before = None if last is None else last["purchase_id"]
        async with db.read() as session:
            return await reports.list_purchases(session, before=before, limit=limit, **wanted.model_dump())

    record = partial(record_export, primary, admin, "purchases", wanted.model_dump())
    return await csv_file("purchases", tuple(PurchaseRow.model_fields), next_page, record)


@router.get("/reconcile")
async def get_last_reconciliation(admin: Viewer, db: Db) -> ReconciliationReply | None:
    """What came of the last time that somebody asked for everything to be reconciled; null: nobody ever did."""
    return await reconciliation.last(db, admin.now)


@router.post("/reconcile", status_code=status.HTTP_202_ACCEPTED)
async def reconcile_all(admin: Support, db: Db) -> ReconciliationReply:
    """Have the worker ask Stripe about everything that is not settled, as it does every few minutes, but now.

    Nothing has happened yet when this answers: ask where it stands, or read the audit log. While one waits for the
    worker, asking again gives that one back.
    """
    await reconciliation.ask(db, admin)
    asked = await reconciliation.last(db, admin.now)
    assert asked is not None
    return asked


@router.get("/{purchase_id}", responses=NOT_FOUND)
async def get_purchase_with_events(purchase_id: UUID, admin: Viewer, db: Db) -> PurchaseReply:
    """A purchase with what Stripe told us about it, in the order in which it came."""
    row = await _find(db, purchase_id)
    async with db.read() as session:
        events = await reports.list_events(session, row["environment"], row["payment_id"]) if row["payment_id"] else []
        disputes = await reports.list_disputes(session, row["account_id"], purchase_id)
    return PurchaseReply(
        **row,
        events=[PaymentEventReply(**event) for event in events],
        disputes=[DisputeReply(**dispute) for dispute in disputes],
    )


@router.post("/{purchase_id}/refund", responses={**NOT_FOUND, 409: {"model": ErrorReply}})
async def refund_purchase(
    purchase_id: UUID, body: RefundBody, admin: Administrator, db: Db, payments: Payments
) -> PurchaseRow:
    """Give money back through Stripe; the credits leave in proportion. The same key again refunds nothing more.

    What is to be done is in the audit log before Stripe is asked, so that no refund is ever without its entry.
    """
    row = await _find(db, purchase_id)
    async with db.transaction() as tx:
        await admin.record(
            tx,
            "purchase.refund",
            "purchase",
            purchase_id,
            environment=row["environment"],
            before={"refunded_minor": row["refunded_minor"], "currency": row["currency"]},
            after={
                "refund_minor": body.amount_minor or "all that is left",
                "currency": row["currency"],
                "idempotency_key": body.idempotency_key,
            },
            reason=body.reason,
        )
    await payments.refund(row["account_id"], purchase_id, body.amount_minor, body.idempotency_key, admin.now)
    return PurchaseRow(**await _find(db, purchase_id))


@router.post("/{purchase_id}/reconcile", responses=NOT_FOUND)
async def reconcile_purchase(purchase_id: UUID, admin: Support, db: Db, payments: Payments) -> BookedReply:
    """Ask Stripe about this purchase, its refunds and its disputes now, and book what is missing.

    That it was asked for is in the audit log before Stripe is asked, and what came of it after that: so no booking is
    ever without an entry.
    """
    row = await _find(db, purchase_id)
    async with db.transaction() as tx:
        await admin.record(tx, "purchase.reconcile", "purchase", purchase_id, environment=row["environment"])
    booked = await payments.reconcile_purchase(row["account_id"], purchase_id, admin.now)
    await payments.reconcile_money_back(row["account_id"], purchase_id, admin.now)
    after = await _find(db, purchase_id)
    async with db.transaction() as tx:
        await admin.record(
            tx,
            "purchase.reconciled",
            "purchase",
            purchase_id,
            environment=row["environment"],
            before={"status": row["status"], "credited": row["credited"]},
            after={"status": after["status"], "credited": after["credited"]},
        )
    return BookedReply(booked=booked, purchase=PurchaseRow(**after))


async def _find(db: Database, purchase_id: UUID) -> reports.Row:
    """Raises PaymentNotFound."""
    async with db.read() as session:
        row = await reports.find_purchase(session, purchase_id)
    if row is None:
        raise PaymentNotFound
    return row
