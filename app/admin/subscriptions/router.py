"""`/admin/subscriptions`: subscriptions of all users, and one with its invoices, grants and Stripe's events."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, Field

from app.admin.dependencies import Db, ReportDb, ReportRoute, Viewer
from app.admin.people import find_people
from app.admin.schemas import Person
from app.admin.subscriptions import queries
from app.admin.subscriptions.queries import Position, Row, View
from app.admin.subscriptions.schemas import (
    AccountSubscriptionsReply,
    GivenReply,
    InvoiceReply,
    PeriodGrantReply,
    SubscriptionDetails,
    SubscriptionEventReply,
    SubscriptionFields,
    SubscriptionRow,
    SubscriptionsReply,
    TermsReply,
)
from app.admin.subscriptions.state import given_by_event
from app.admin.users.router import find_user
from app.auth.caller import Environment
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, ErrorReply, Key255
from app.plans.document import Plan
from app.plans.entitlement import Status
from app.settings import Settings
from app.subscriptions.errors import SubscriptionNotFound
from app.subscriptions.queries import find_subscriber
from app.timestamps import bounded

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
GRANTS_OF_ACCOUNT = 24
router = APIRouter(prefix="/admin", tags=["admin: subscriptions"], responses=ERRORS, route_class=ReportRoute)


async def grace_period(request: Request) -> timedelta:
    settings: Settings = request.app.state.settings
    return timedelta(days=settings.subscription_grace_days)


Grace = Annotated[timedelta, Depends(grace_period)]


class Page(BaseModel):
    environment: Environment | None = None
    status: Status | None = Field(default=None, description="Stripe's word.")
    view: View | None = Field(
        default=None,
        description="`subscribed`: begun and not ended. `canceling`: those of them that will end. `ended`: the others.",
    )
    plan: Key255 | None = Field(default=None, description="The name of the plan of its present price.")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Key255 | None = None


@router.get("/subscriptions")
async def list_subscriptions(
    admin: Viewer, db: ReportDb, grace: Grace, page: Annotated[Page, Query()]
) -> SubscriptionsReply:
    """List the subscriptions of all users, the latest start first."""
    after = None if page.cursor is None else _position(page.cursor)
    filters = page.model_dump(exclude={"limit", "cursor"})
    async with db.read() as session:
        found = await queries.list_subscriptions(session, after=after, limit=page.limit + 1, **filters)
        rows = found[: page.limit]
        people = await find_people(session, [row["account_id"] for row in rows])
    return SubscriptionsReply(
        subscriptions=[
            SubscriptionRow.of(row, grace, admin.now, subscriber=Person.of(people[row["account_id"]])) for row in rows
        ],
        next_cursor=_cursor(rows[-1]) if len(found) > page.limit else None,
    )


@router.get("/users/{account_id}/subscriptions", responses=NOT_FOUND)
async def list_account_subscriptions(
    account_id: UUID, admin: Viewer, db: Db, grace: Grace
) -> AccountSubscriptionsReply:
    """Return the account's subscriptions, and the latest grants of their paid periods."""
    await find_user(db, account_id)
    async with db.read() as session:
        rows = await queries.list_of_account(session, account_id)
        grants = await queries.list_grants(session, account_id, None, GRANTS_OF_ACCOUNT)
    return AccountSubscriptionsReply(
        subscriptions=[SubscriptionFields.of(row, grace, admin.now) for row in rows],
        grants=[PeriodGrantReply.of(grant) for grant in grants],
    )


@router.get("/subscriptions/{account_id}/{subscription_id}", responses=NOT_FOUND)
async def get_subscription_with_events(
    account_id: UUID, subscription_id: Annotated[Key255, Path()], admin: Viewer, db: Db, grace: Grace
) -> SubscriptionDetails:
    """Return a subscription with its invoices, grants, kept terms, and Stripe's events in the order of arrival."""
    async with db.read() as session:
        row = await queries.find_subscription(session, account_id, subscription_id)
        if row is None:
            raise SubscriptionNotFound
        people = await find_people(session, [account_id])
        subscriber = await find_subscriber(session, account_id)
        invoices = await queries.list_invoices(session, account_id, subscription_id)
        grants = await queries.list_grants(session, account_id, subscription_id)
        terms = await queries.list_terms(session, account_id, subscription_id)
        objects = [subscription_id, *(invoice["invoice_id"] for invoice in invoices)]
        payments = [payment for invoice in invoices for payment in invoice["payment_ids"]]
        events = await queries.list_events(session, row["environment"], objects, payments)
    return SubscriptionDetails.of(
        row,
        grace,
        admin.now,
        subscriber=Person.of(people[account_id]),
        customer_id=row["customer_id"],
        plan_before=None if subscriber is None else subscriber["plan_before"],
        invoices=[InvoiceReply.of(invoice) for invoice in invoices],
        grants=[PeriodGrantReply.of(grant) for grant in grants],
        terms=[_terms(kept) for kept in terms],
        events=_events(events, grants, subscription_id),
    )


def _terms(row: Row) -> TermsReply:
    plan = Plan.model_validate(row["terms"])
    return TermsReply(price_id=row["price_id"], interval=row["plan_interval"], plan=plan, created_at=row["created_at"])


def _events(events: Sequence[Row], grants: Sequence[Row], subscription_id: str) -> list[SubscriptionEventReply]:
    given = given_by_event(events, grants)
    replies = []
    for event in events:
        object_id, payment_id = event["object_id"], event["payment_id"]
        gave = [PeriodGrantReply.of(grant) for grant in given.get(event["event_id"], [])]
        replies.append(
            SubscriptionEventReply(
                **{name: event[name] for name in ("event_id", "type", "outcome", "created_at", "received_at")},
                about="payment" if object_id is None else "subscription" if object_id == subscription_id else "invoice",
                object_id=object_id or payment_id,
                given=[GivenReply(unit=grant.unit, amount=grant.amount) for grant in gave],
            )
        )
    return replies


def _cursor(row: Row) -> str:
    """Return the keyset position after the row: microseconds since 1970, and the subscription."""
    return f"{(row['started_at'] - EPOCH) // MICROSECOND}.{row['subscription_id']}"


def _position(cursor: str) -> Position:
    """Return the position of a cursor. Raise InvalidRequest for a text that is none."""
    number, point, subscription_id = cursor.partition(".")
    try:
        if not point or not subscription_id:
            raise ValueError
        return Position(bounded(EPOCH + int(number) * MICROSECOND), subscription_id)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            "cursor is not from this list: send next_cursor of the previous page", field="cursor"
        ) from None
