"""`/admin/failed-payments`: payments that failed and are still due, with the next attempt, over all users."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.failed_payments import queries
from app.admin.failed_payments.queries import Kind, Position
from app.admin.people import find_people
from app.admin.schemas import Person
from app.auth.caller import Environment
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, Key255, Reply, Timestamp
from app.ledger.money import minor_floor
from app.timestamps import bounded

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
router = APIRouter(
    prefix="/admin/failed-payments", tags=["admin: subscriptions"], responses=ERRORS, route_class=ReportRoute
)


class FailedPayment(Reply):
    kind: Kind = Field(
        description="`subscription`: an invoice. `refill`: automatic refills of the account. `authentication`: a "
        "refill that waits until the owner of the card authenticates it."
    )
    account_id: UUID
    payer: Person
    environment: Environment
    since: Timestamp = Field(description="When the invoice was due, or the refill was last declined or begun.")
    amount_minor: int
    currency: str
    attempts: int = Field(description="That failed so far. For refills: declines in a row.")
    next_attempt_at: Timestamp | None = Field(
        description="Of an invoice: by Stripe. Of refills: the earliest time. null: none is planned."
    )
    decline: str | None = Field(description="Stripe's code.")
    state: str = Field(
        description="Of the subscription, in Stripe's word; for refills `retried`, or why they were switched off."
    )
    subscription_id: str | None
    invoice_id: str | None
    purchase_id: UUID | None


class FailedPaymentsReply(Reply):
    payments: list[FailedPayment]
    next_cursor: str | None


class Page(BaseModel):
    kind: Kind | None = None
    environment: Environment | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Key255 | None = None


@router.get("")
async def list_failed_payments(admin: Viewer, db: ReportDb, page: Annotated[Page, Query()]) -> FailedPaymentsReply:
    """List payments of subscriptions and refills that failed and are still due, the latest first."""
    after = None if page.cursor is None else _position(page.cursor)
    async with db.read() as session:
        found = await queries.list_failed_payments(
            session, kind=page.kind, environment=page.environment, after=after, limit=page.limit + 1
        )
        rows = found[: page.limit]
        people = await find_people(session, [row["account_id"] for row in rows])
    payments = []
    for row in rows:
        nanos = row["amount_nanos"]
        amount_minor = row["amount_minor"] if nanos is None else minor_floor(nanos, row["currency"])
        names = set(FailedPayment.model_fields) - {"payer", "amount_minor"}
        payments.append(
            FailedPayment(
                **{name: row[name] for name in names},
                payer=Person.of(people[row["account_id"]]),
                amount_minor=amount_minor,
            )
        )
    last = None if len(found) <= page.limit else rows[-1]
    cursor = None if last is None else f"{(last['since'] - EPOCH) // MICROSECOND}.{last['key']}"
    return FailedPaymentsReply(payments=payments, next_cursor=cursor)


def _position(cursor: str) -> Position:
    """Return the position of a cursor. Raise InvalidRequest for a text that is none."""
    number, _, key = cursor.partition(".")
    try:
        if not key:
            raise ValueError
        return Position(bounded(EPOCH + int(number) * MICROSECOND), key)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "cursor is not from this list: send next_cursor of the previous page", field="cursor"
        ) from None
