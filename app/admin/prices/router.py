"""`/admin/price-books`: versions, their differences, decisions about disputed rows, and activation."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from app.admin.audit.log import Admin
from app.admin.changed import ChangedMeanwhile, ChangedReply
from app.admin.dependencies import Administrator, Db, Viewer
from app.admin.prices.schemas import (
    MAX_VERSION,
    ActivateBody,
    CalculateBody,
    CalculateReply,
    ConfirmBody,
    DifferenceReply,
    ImportReply,
    LlmRowsReply,
    PriceBookDetailReply,
    PriceBookReply,
    PriceBooksReply,
    UnknownModelReply,
    UnknownModelsReply,
)
from app.admin.schemas import Pasted, ReasonBody
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.db import Database, Session
from app.errors import InvalidRequest
from app.http.schemas import ERRORS, ErrorReply
from app.pricing import editing, history
from app.pricing.book import LlmRow, Status, fold
from app.pricing.compiled import PriceBook, UnknownModel
from app.pricing.editing import Author
from app.pricing.engine import CostTooLarge, Priced, UnknownMeter, price
from app.pricing.importing import command as importing
from app.pricing.service import PriceBooks
from app.pricing.usage import LlmTokens, Mode, TokenClass

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
CHANGED: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": ChangedReply}}
router = APIRouter(prefix="/admin", tags=["admin: prices"], responses=ERRORS, route_class=GuardedRoute)
VersionInPath = Annotated[int, Path(ge=1, le=MAX_VERSION)]
Limit = Annotated[int, Query(ge=1, le=200)]
MAX_UNKNOWN = 1_000


async def price_books(request: Request) -> PriceBooks:
    books: PriceBooks = request.app.state.price_books
    return books


Books = Annotated[PriceBooks, Depends(price_books)]


def _author(admin: Admin, reason: str) -> Author:
    return Author(admin.caller.email, admin.caller.admin_id, reason, admin.now)


@router.get("/price-books")
async def list_price_books(
    admin: Viewer,
    db: Db,
    limit: Limit = 50,
    cursor: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None,
) -> PriceBooksReply:
    """List the versions of price books, newest first."""
    async with db.read() as session:
        rows = await history.list_versions(session, admin.now, before=cursor, limit=limit + 1)
    books = [PriceBookReply(**row) for row in rows[:limit]]
    return PriceBooksReply(price_books=books, next_cursor=books[-1].version if len(rows) > limit else None)


@router.get("/price-books/{version}", responses=NOT_FOUND)
async def get_price_book(version: VersionInPath, admin: Viewer, db: Db, books: Books) -> PriceBookDetailReply:
    """Return a version without its models' rows."""
    return await _detail(version, admin, db, books)


@router.get("/price-books/{version}/rows", responses=NOT_FOUND)
async def list_price_book_rows(
    version: VersionInPath,
    admin: Viewer,
    books: Books,
    status: Status | None = None,
    provider: Pasted | None = None,
    q: Annotated[Pasted | None, Query(description="A part of the model's id or of an alias.")] = None,
    limit: Limit = 50,
    cursor: Annotated[int, Query(ge=0, le=MAX_VERSION)] = 0,
) -> LlmRowsReply:
    """List the rows of a version's models, with the prices that other sources state for disputed ones."""
    document = (await books.book(version)).document
    rows = [row for row in document.llm if _matches(row, status, provider, q)]
    following = cursor + limit
    return LlmRowsReply(
        rows=rows[cursor:following], next_cursor=following if len(rows) > following else None, total=len(rows)
    )


def _matches(row: LlmRow, status: Status | None, provider: str | None, part: str | None) -> bool:
    if (status is not None and row.status != status) or (provider is not None and fold(row.provider) != fold(provider)):
        return False
    return part is None or any(fold(part) in fold(name) for name in (row.model, *row.aliases))


@router.get("/price-books/{version}/difference", responses=NOT_FOUND)
async def compare_price_book(
    version: VersionInPath,
    admin: Viewer,
    books: Books,
    against: Annotated[int | None, Query(ge=1, le=MAX_VERSION)] = None,
    limit: Limit = 50,
    cursor: Annotated[int, Query(ge=0, le=MAX_VERSION)] = 0,
) -> DifferenceReply:
    """List what a version changes, price by price. Default: against the version in force for its currency."""
    if against is None:
        in_force = await books.current((await books.book(version)).currency, admin.now)
        against = None if in_force is None else in_force.version
    changes = await books.difference(against, version)
    return DifferenceReply.of(against, version, changes, cursor, limit)


@router.post("/price-books/import")
async def import_shipped_prices(body: ReasonBody, admin: Administrator, db: Db) -> ImportReply:
    """Propose the open price data that this version of the service ships. Nothing is in force before an activation.

    `ciris-billing prices import` reads newer data.
    """
    base = await importing.find_base(db, admin.now)
    proposal = await asyncio.to_thread(importing.from_seed, base)
    async with db.transaction() as tx:
        version, is_new = await importing.store(tx, proposal, _author(admin, body.reason))
        if is_new:
            after = {"based_on": proposal.based_on, "changes": len(proposal.changes)}
            await admin.record(tx, "price_book.propose", "price_book", version, after=after, reason=body.reason)
    return ImportReply(version=version)


@router.post("/price-books/{version}/confirm", responses=NOT_FOUND)
async def confirm_price_book_rows(
    version: VersionInPath, body: ConfirmBody, admin: Administrator, db: Db, books: Books
) -> PriceBookDetailReply:
    """Confirm disputed rows in a new version, which then has to be activated. Return that version."""
    choices = {choice.row: choice.source for choice in body.choices}
    async with db.transaction() as tx:
        confirmed = await editing.confirm(tx, version, choices, _author(admin, body.reason))
        after = {"version": confirmed, "choices": choices}
        await admin.record(tx, "price_book.confirm", "price_book", version, after=after, reason=body.reason)
    return await _detail(confirmed, admin, db, books)


@router.post("/price-books/{version}/activate", responses=CHANGED)
async def activate_price_book(
    version: VersionInPath, body: ActivateBody, admin: Administrator, db: Db, books: Books
) -> PriceBookDetailReply:
    """Put a version in force for its currency from a time on. Stored events keep the price that they had."""
    if body.seen_none_in_force and body.seen_in_force is not None:
        raise InvalidRequest("seen_none_in_force excludes seen_in_force", field="seen_none_in_force")
    currency = (await books.book(version)).currency
    effective_at = body.effective_at or admin.now
    async with db.transaction() as tx:
        await editing.lock(tx)
        before = await editing.find_activation(tx, currency, admin.now)
        if before is not None and body.is_outdated(before.version):
            raise _changed(before)
        await editing.activate(tx, version, effective_at, _author(admin, body.reason))
        await admin.record(
            tx,
            "price_book.activate",
            "price_book",
            version,
            before=None if before is None else {"in_force": before.version},
            after={"version": version, "currency": currency, "effective_at": effective_at},
            reason=body.reason,
        )
    return await _detail(version, admin, db, books)


def _changed(in_force: editing.Activation) -> ChangedMeanwhile:
    return ChangedMeanwhile(
        f"Version {in_force.version} has been put in force",
        current={"in_force": in_force.version},
        changed_by=in_force.activated_by,
        changed_at=in_force.activated_at,
    )


@router.post("/price-books/{version}/calculate", responses=NOT_FOUND)
async def calculate_price(
    version: VersionInPath, body: CalculateBody, request: Request, admin: Viewer, books: Books, now: Now
) -> CalculateReply:
    """Return what an event would cost, line by line. Charges no account."""
    book = await books.book(version)
    markups = await request.app.state.usage.plan_markups()
    found = price(
        book,
        body.usage.usage(),
        at=body.at or now,
        plan=body.plan,
        plan_markup=None if body.plan is None else markups.get(body.plan),
        tool=body.tool,
        month_quantity=body.month_quantity,
    )
    return CalculateReply.of(version, book.currency, found if isinstance(found, Priced) else _problem(found))


def _problem(found: UnknownModel | UnknownMeter | CostTooLarge) -> str:
    match found:
        case UnknownModel(reason=reason, missing=missing):
            return reason if missing is None else f"{reason}: {missing}"
        case UnknownMeter(meter=meter):
            return f"no_row: {meter}"
        case CostTooLarge():
            return "cost_too_large"


@router.get("/unknown-models")
async def list_unknown_models(
    admin: Viewer,
    db: Db,
    books: Books,
    currency: Annotated[str, Query(pattern=r"^[A-Z]{3}$")] = "USD",
    limit: Annotated[int, Query(ge=1, le=MAX_UNKNOWN)] = 200,
) -> UnknownModelsReply:
    """List the models that usage named and no price book priced, the last seen first."""
    async with db.read() as session:
        rows = await history.list_unknown_models(session, limit=limit)
    book = await books.current(currency, admin.now)
    models = [UnknownModelReply(**row, priced_now=book is not None and is_priced(book, row, admin.now)) for row in rows]
    return UnknownModelsReply(models=models)


def is_priced(book: PriceBook, seen: Mapping[str, Any], now: datetime) -> bool:
    """Return whether a book prices what an unknown model lacked: a row, or the price of a mode or of a token class.

    Versions before 0033 stored neither. The mode was `priority` then, and the class uncached input or text output.
    """
    mode: Mode = "standard"
    tokens: dict[TokenClass, int] = {}
    if seen["reason"] == "no_price_for_mode":
        mode = seen["missing"] or "priority"
    elif seen["reason"] == "no_price_for_class":
        tokens = dict.fromkeys([seen["missing"]] if seen["missing"] else ["input_uncached", "output_text"], 1)
    found = price(book, LlmTokens(seen["provider"], seen["model"], tokens, mode), at=now)
    return isinstance(found, Priced) and not found.fallback


async def _detail(version: int, admin: Admin, db: Database, books: PriceBooks) -> PriceBookDetailReply:
    document = (await books.book(version)).document
    async with db.read() as session:
        row = await _row(session, version, admin)
    statuses: dict[Status, int] = {}
    for model in document.llm:
        statuses[model.status] = statuses.get(model.status, 0) + 1
    return PriceBookDetailReply(**row, rows=statuses, document=document.model_dump(mode="json", exclude={"llm"}))


async def _row(session: Session, version: int, admin: Admin) -> dict[str, Any]:
    (row,) = await history.list_versions(session, admin.now, before=version + 1, limit=1)
    return row
