"""`/admin/purchases`: purchases, their events at Stripe, refunds and reconciliation."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, Field, StringConstraints

from app.admin.audit.log import record_export
from app.admin.audit.queries import Row
from app.admin.changed import ChangedMeanwhile, ChangedReply
from app.admin.csv_export import csv_file
from app.admin.dependencies import Administrator, Db, ReportDb, ReportRoute, Support, Viewer
from app.admin.people import find_people, search_accounts
from app.admin.purchases import queries, reconciliation
from app.admin.purchases.queries import PurchaseState, View
from app.admin.purchases.schemas import (
    BookedReply,
    DisputeReply,
    PaymentEventReply,
    PurchaseDetails,
    PurchaseRow,
    PurchasesReply,
    ReconciliationReply,
    RefundBody,
    RefundReply,
)
from app.admin.schemas import PAGE, Moment, Pasted, Person
from app.auth.caller import Environment
from app.db import Database, Session
from app.http.schemas import ERRORS, ErrorReply
from app.payments.closed_accounts import ACCOUNT_CLOSED
from app.payments.errors import PaymentNotFound, RefundRefused
from app.payments.queries import list_refunds
from app.payments.router import Payments
from app.payments.stripe_http import request_key

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
CSV_COLUMNS = (*Person.model_fields, *(name for name in PurchaseRow.model_fields if name != "buyer"))
REFUSED = "purchase.refund_refused"
BY_SYSTEM = "System"
JUST_NOW = timedelta(seconds=60)
"""A refund request may be under way for this long."""
router = APIRouter(prefix="/admin/purchases", tags=["admin: purchases"], responses=ERRORS, route_class=ReportRoute)


class Filters(BaseModel):
    environment: Environment | None = None
    status: PurchaseState | None = Field(
        default=None, description="`succeeded` includes purchases that were refunded later."
    )
    account_id: UUID | None = None
    buyer: Pasted | None = Field(default=None, description="Search text as for users; at most 500 accounts.")
    card_last4: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{1,8}$")] | None = None
    amount_minor: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    since: Moment | None = Field(default=None, description="Started at this time or later.")
    until: Moment | None = Field(default=None, description="Started before this time.")
    payment_id: Pasted | None = None
    view: View | None = Field(default=None, description="Purchases in an irregular state.")


class Page(Filters):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: UUID | None = None


@router.get("")
async def list_purchases(admin: Viewer, db: ReportDb, page: Annotated[Page, Query()]) -> PurchasesReply:
    """List purchases, newest first. The views are normally empty; `for_review`: the money did not arrive as agreed."""
    filters, limit = page.model_dump(exclude=PAGE), page.limit
    async with db.read() as session:
        found = await _list(session, filters, before=page.cursor, limit=limit + 1)
        rows = await _with_buyers(session, found[:limit])
    purchases = [PurchaseRow(**row) for row in rows]
    return PurchasesReply(purchases=purchases, next_cursor=purchases[-1].purchase_id if len(found) > limit else None)


@router.get(".csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
async def export_purchases(admin: Support, db: ReportDb, primary: Db, filters: Annotated[Filters, Query()]) -> Response:
    """Export all matching purchases, newest first, as CSV. Amounts are in minor units.

    The export is recorded in the audit log.
    """

    async def next_page(last: Row | None, limit: int) -> Sequence[Row]:
        before = None if last is None else last["purchase_id"]
        async with db.read() as session:
            rows = await _with_buyers(session, await _list(session, filters.model_dump(), before=before, limit=limit))
        return [{**row, **row["buyer"].model_dump()} for row in rows]

    record = partial(record_export, primary, admin, "purchases", filters.model_dump())
    return await csv_file("purchases", CSV_COLUMNS, next_page, record)


@router.get("/reconcile")
async def get_last_reconciliation(admin: Viewer, db: Db) -> ReconciliationReply | None:
    """Return the state of the last reconciliation of everything that an admin requested; null: none yet."""
    return await reconciliation.last(db, admin.now)


@router.post("/reconcile", status_code=status.HTTP_202_ACCEPTED)
async def reconcile_all(admin: Support, db: Db) -> ReconciliationReply:
    """Have the worker reconcile everything that is not settled with Stripe now, as it does every few minutes.

    The answer comes before the work: poll the state, or read the audit log. While a request waits for the worker,
    another one returns the same job.
    """
    await reconciliation.request(db, admin)
    requested = await reconciliation.last(db, admin.now)
    assert requested is not None
    return requested


@router.get("/{purchase_id}", responses=NOT_FOUND)
async def get_purchase_with_events(purchase_id: UUID, admin: Viewer, db: Db) -> PurchaseDetails:
    """Return a purchase with Stripe's events about it, in the order of arrival."""
    row = await _find(db, purchase_id)
    async with db.read() as session:
        events = await queries.list_events(session, row["environment"], row["payment_id"]) if row["payment_id"] else []
        disputes = await queries.list_disputes(session, row["account_id"], purchase_id)
        refunds = await _list_refunds(session, row["account_id"], purchase_id)
    return PurchaseDetails(
        **row,
        refunds=refunds,
        events=[PaymentEventReply(**event) for event in events],
        disputes=[DisputeReply(**dispute) for dispute in disputes],
    )


@router.post("/{purchase_id}/refund", responses={**NOT_FOUND, 409: {"model": ChangedReply | ErrorReply}})
async def refund_purchase(
    purchase_id: UUID, body: RefundBody, admin: Administrator, db: Db, payments: Payments
) -> PurchaseRow:
    """Refund money through Stripe; credits are taken back in proportion. The same key again refunds nothing more.

    The request is in the audit log before Stripe is called, so that no refund is ever without its entry.
    """
    row = await _find(db, purchase_id)
    async with db.transaction() as tx:
        await _require_unchanged(tx, row, body, admin.now)
        before = await list_refunds(tx, row["account_id"], purchase_id)
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
    account_id = row["account_id"]
    try:
        await payments.refund(account_id, purchase_id, body.amount_minor, body.idempotency_key, admin.now)
    except RefundRefused as error:
        async with db.transaction() as tx:
            await admin.record(
                tx,
                REFUSED,
                "purchase",
                purchase_id,
                environment=row["environment"],
                after={"idempotency_key": body.idempotency_key, "answer": error.detail},
            )
        # The money may have been returned at Stripe, without a webhook so far.
        await payments.reconcile_money_back(account_id, purchase_id, admin.now)
        after = await _find(db, purchase_id)
        if after["refunded_minor"] != row["refunded_minor"]:
            async with db.read() as session:
                raise await _changed(session, after, {refund.refund_id for refund in before}) from None
        raise
    return PurchaseRow(**await _find(db, purchase_id))


@router.post("/{purchase_id}/reconcile", responses=NOT_FOUND)
async def reconcile_purchase(purchase_id: UUID, admin: Support, db: Db, payments: Payments) -> BookedReply:
    """Check this purchase, its refunds and its disputes with Stripe now, and book what is missing.

    The request is in the audit log before Stripe is called, and the outcome after it, so that no booking is ever
    without an entry.
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


async def _find(db: Database, purchase_id: UUID) -> Row:
    """Return the purchase with its buyer. Raise PaymentNotFound."""
    async with db.read() as session:
        row = await queries.find_purchase(session, purchase_id)
        if row is None:
            raise PaymentNotFound
        [row] = await _with_buyers(session, [row])
    return row


async def _list(session: Session, filters: Mapping[str, Any], *, before: UUID | None, limit: int) -> Sequence[Row]:
    conditions = dict(filters)
    buyer = conditions.pop("buyer")
    buyers = None if buyer is None else await search_accounts(session, buyer)
    return await queries.list_purchases(session, before=before, limit=limit, buyers=buyers, **conditions)


async def _with_buyers(session: Session, rows: Sequence[Row]) -> list[dict[str, Any]]:
    people = await find_people(session, [row["account_id"] for row in rows])
    return [{**row, "buyer": Person.of(people[row["account_id"]])} for row in rows]


async def _list_refunds(session: Session, account_id: UUID, purchase_id: UUID) -> list[RefundReply]:
    """Return the refunds that are known by id, each with the admin who requested it here."""
    requests: dict[str, Row] = {
        ACCOUNT_CLOSED: {"admin_email": BY_SYSTEM, "reason": "The account was closed before the money arrived"}
    }
    for request in await queries.list_refund_requests(session, purchase_id):
        requests.setdefault(request_key(request["idempotency_key"]), request)
    refunds = []
    for refund in await list_refunds(session, account_id, purchase_id):
        request = requests.get(refund.request_key or "", {})
        refunds.append(
            RefundReply(
                refund_id=refund.refund_id,
                amount_minor=refund.amount_minor,
                status=refund.status,
                created_at=refund.created_at,
                asked_by=request.get("admin_email"),
                reason=request.get("reason") or refund.reason,
            )
        )
    return refunds


async def _require_unchanged(tx: Session, row: Row, body: RefundBody, now: datetime) -> None:
    """Lock the purchase, so that concurrent refund requests see each other. Raise ChangedMeanwhile."""
    refunded_minor = await queries.lock_purchase(tx, row["account_id"], row["purchase_id"])
    requests = await queries.list_refund_requests(tx, row["purchase_id"])
    if body.seen_refunded_minor is None or body.idempotency_key in [r["idempotency_key"] for r in requests]:
        return
    if refunded_minor != body.seen_refunded_minor:
        raise await _changed(tx, {**row, "refunded_minor": refunded_minor})
    ended = {refund.request_key for refund in await list_refunds(tx, row["account_id"], row["purchase_id"])}
    ended |= {request_key(key) for key in await queries.list_refused_refunds(tx, row["purchase_id"])}
    for request in requests:
        if request["created_at"] > now - JUST_NOW and request_key(request["idempotency_key"]) not in ended:
            raise ChangedMeanwhile(
                "Another refund of this purchase is under way",
                current=_figures(row),
                changed_by=request["admin_email"],
                changed_at=request["created_at"],
            )


async def _changed(session: Session, row: Row, seen: Collection[str] = ()) -> ChangedMeanwhile:
    """Return the conflict, with the author of the last refund that was not `seen`, if one is known by id."""
    refunds = await _list_refunds(session, row["account_id"], row["purchase_id"])
    refunds = [refund for refund in refunds if refund.refund_id not in seen]
    by, at = (refunds[-1].asked_by or "Stripe", refunds[-1].created_at) if refunds else (None, None)
    detail = "Money of this purchase has been refunded since"
    return ChangedMeanwhile(detail, current=_figures(row), changed_by=by, changed_at=at)


def _figures(row: Row) -> dict[str, Any]:
    left = max(0, (row["received_minor"] or 0) - row["refunded_minor"])
    currency = row["received_currency"] or row["currency"]
    return {"refunded_minor": row["refunded_minor"], "left_minor": left, "currency": currency}
