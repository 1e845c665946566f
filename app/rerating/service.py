"""Reratings: prices the usage of a period again, shows the effect per account, and corrects the books.

    reratings = Reratings(db, PriceBooks(db), record_by_system)
    async for effect in reratings.run(period, apply=True): ...

The cost that is in force of an event is its last correction's, so a repeated run finds nothing to change. Each account
is corrected in a transaction, under its lock, where the costs are read again: one of concurrent runs corrects an
event, and a run that was interrupted continues when it is repeated.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.auth.audit import RecordBySystem
from app.auth.caller import Actor, Environment
from app.clock import utc_now
from app.cost_records import item_queries
from app.db import Database, Session, new_id
from app.db.version_mark import VersionMark
from app.errors import AppError, InvalidRequest
from app.ledger.corrections import find_lots, give_back
from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import LockedAccount, lock_account, write
from app.ledger.work_done import spend_or_owe
from app.metering import correction_queries as queries
from app.metering.events import Books
from app.pricing.service import PriceBooks
from app.rerating.pricing import Change, OneBook, Repricer, Row, change_of, is_record, volumes_before

KNOWN_SINCE = "0033"
"""The revision before whose version a ledger entry of a correction is a mismatch."""
ACCOUNTS_AT_ONCE, EVENTS_AT_ONCE = 500, 2_000
PART_EVENTS = 5_000
"""Changed events that one transaction corrects. Bounds how long an account is locked."""
ACTOR = Actor("system", "rerate")


@dataclass(frozen=True, slots=True)
class Period:
    """The usage that is priced again: by its own time, half-open. `version` None: by the books in force then."""

    environment: Environment
    since: datetime
    until: datetime
    version: int | None = None
    account_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.since >= self.until:
            raise InvalidRequest("from must be before to", field="from")

    @property
    def months(self) -> tuple[datetime, datetime]:
        """The begin of the first month, and the end of the last one, in UTC."""
        last = self.until.replace(day=28, hour=0, minute=0, second=0, microsecond=0)
        end = last.replace(year=last.year + last.month // 12, month=last.month % 12 + 1, day=1)
        return self.since.replace(day=1, hour=0, minute=0, second=0, microsecond=0), end


@dataclass(slots=True)
class Effect:
    """The effect on an account. Amounts are nanos; `old` and `new` are of charged events, `recorded_…` of others.

    `unpriced` events have no price now and keep their own, as events with a stated cost do. `skipped` is the reason
    why the account is not corrected. `corrected_nanos` is what this run charged, or gave back if it is negative.
    """

    account_id: UUID
    currency: str
    events: int = 0
    changed: int = 0
    stated: int = 0
    unpriced: int = 0
    old_nanos: int = 0
    new_nanos: int = 0
    recorded_old_nanos: int = 0
    recorded_new_nanos: int = 0
    skipped: str | None = None
    corrected_events: int = 0
    corrected_nanos: int = 0
    changes: list[Change] = field(default_factory=list, repr=False)

    def add(self, row: Row, new_nanos: int) -> None:
        if row["status"] == "recorded":
            self.recorded_old_nanos += row["cost_nanos"]
            self.recorded_new_nanos += new_nanos
        else:
            self.old_nanos += row["cost_nanos"]
            self.new_nanos += new_nanos


@dataclass(slots=True)
class _Run:
    """An applied run. It is stored with its first correction: a run without any leaves no trace."""

    period: Period
    reason: str
    rerating_id: UUID
    is_stored: bool = False


class Reratings:
    """Prices usage again. Reads without locks; corrects account by account."""

    def __init__(self, db: Database, prices: PriceBooks, record: RecordBySystem) -> None:
        self._db = db
        self._prices = prices
        self._record = record

    async def run(self, period: Period, *, reason: str = "", apply: bool = False) -> AsyncIterator[Effect]:
        """Yield the effect on each account with usage in the period; with `apply`, once it is corrected.

        Raises PriceBookNotFound, and UpgradeInProgress while a version may run that cannot read corrections (ADR 26).
        """
        if apply:
            await VersionMark(self._db).require(KNOWN_SINCE)
        books = await self._books(period)
        run = _Run(period, reason, new_id())
        totals: dict[str, int] = {}
        async for account in self._accounts(period):
            if account["erased_at"] is not None or books.at(account["currency"], period.until) is None:
                continue
            effect = await self._examine(account, period, books)
            if apply:
                await self._correct(run, effect)
                totals[effect.currency] = totals.get(effect.currency, 0) + effect.corrected_nanos
            effect.changes.clear()
            yield effect
        if run.is_stored:
            async with self._db.transaction() as tx:
                await self._audit(tx, run, "usage.rerated", {"corrected_nanos": totals})

    async def _books(self, period: Period) -> Books:
        if period.version is not None:
            return OneBook(await self._prices.book(period.version))
        return await self._prices.throughout(period.months[0], max(period.months[1], utc_now()))

    async def _accounts(self, period: Period) -> AsyncIterator[Row]:
        after = queries.START if period.account_id is None else UUID(int=max(0, period.account_id.int - 1))
        limit = ACCOUNTS_AT_ONCE if period.account_id is None else 1
        while True:
            async with self._db.read() as session:
                page = await queries.list_accounts(
                    session, period.environment, period.since, period.until, after, limit
                )
            for account in page:
                if account["has_events"] and period.account_id in (None, account["account_id"]):
                    yield account
            if len(page) < limit or period.account_id is not None:
                return
            after = page[-1]["account_id"]

    # --- reading ---

    async def _examine(self, account: Row, period: Period, books: Books) -> Effect:
        """Price all events of an account again, page by page."""
        effect = Effect(account["account_id"], account["currency"])
        async with self._db.read() as session:
            volumes = await self._volumes(session, account, period, books)
            repricer = Repricer(books, account["currency"], volumes)
            after = (period.since, queries.START)
            while True:
                page = await queries.list_corrected_events(
                    session, effect.account_id, period.since, period.until, after, EVENTS_AT_ONCE
                )
                await self._reprice(session, effect, page, repricer)
                if len(page) < EVENTS_AT_ONCE:
                    break
                after = page[-1]["occurred_at"], page[-1]["usage_id"]
        if not account["billing_enabled"] and effect.new_nanos > effect.old_nanos:
            effect.skipped = "billing_off"
        return effect

    async def _volumes(self, session: Session, account: Row, period: Period, books: Books) -> dict[UUID, Any]:
        first, end = period.months
        rows = await queries.list_volumes(session, account["account_id"], first, end)
        items = await item_queries.list_volumes(session, account["account_id"], first)
        return volumes_before([*rows, *items], books, account["currency"])

    async def _reprice(self, session: Session, effect: Effect, page: Sequence[Row], repricer: Repricer) -> None:
        records = [row["usage_id"] for row in page if is_record(row)]
        items = await item_queries.list_items_of_events(session, effect.account_id, records)
        for row in page:
            if row["status"] == "refused":
                continue
            effect.events += 1
            its_items = items.get(row["usage_id"], ())
            new = None
            if row["stated_nanos"] is not None:
                effect.stated += 1
            else:
                new = repricer.record(row, its_items) if is_record(row) else repricer.event(row)
                effect.unpriced += new is None
            effect.add(row, row["cost_nanos"] if new is None else new.cost_nanos)
            record_id = its_items[0]["record_id"] if its_items else None
            if new is not None and (change := change_of(row, new, record_id)) is not None:
                effect.changed += 1
                effect.changes.append(change)

    # --- writing ---

    async def _correct(self, run: _Run, effect: Effect) -> None:
        for part, first in enumerate(range(0, len(effect.changes), PART_EVENTS), 1):
            changes = effect.changes[first : first + PART_EVENTS]
            async with self._db.read() as session:
                cheaper = [change.cause_id for change in changes if change.difference < 0]
                paid_by_lots = await queries.sum_paid_by_lots(session, effect.account_id, cheaper)
            try:
                async with self._db.transaction() as tx:
                    account = await lock_account(tx, effect.account_id)
                    done = await self._correct_part(tx, run, account, part, changes, paid_by_lots)
            except AppError as error:
                if error.status == 503:
                    raise
                effect.skipped = error.code  # the account's amounts do not fit 64 bits
                return
            if done is None:
                continue
            run.is_stored = True
            effect.corrected_events += done[0]
            effect.corrected_nanos += done[1]

    async def _correct_part(
        self,
        tx: Session,
        run: _Run,
        account: LockedAccount,
        part: int,
        changes: Sequence[Change],
        paid_by_lots: Mapping[UUID, int],
    ) -> tuple[int, int] | None:
        """Correct events of a locked account. Return their number and the amount; None if there was nothing to do."""
        costs = await queries.find_costs(tx, account.account_id, [change.usage_id for change in changes])
        correction_id, now = new_id(), utc_now()
        rows = [
            _correction(account, correction_id, change, costs[change.usage_id])
            for change in changes
            if not _is_in_force(change, costs[change.usage_id])
        ]
        charged = {change.usage_id for change in changes if change.status != "recorded"}
        amount = sum(_difference(row) for row in rows if row["usage_id"] in charged)
        if not account.billing_enabled and amount > 0:
            rows, amount = [row for row in rows if row["usage_id"] not in charged], 0
        if not rows or account.erased_at is not None:
            return None
        if not run.is_stored:
            await self._store(tx, run)
        cause = Cause("correction", correction_id)
        if amount > 0:
            spend_or_owe(account, amount, Kind.CORRECTION, cause, ACTOR, now)
        elif amount < 0:
            lots = await find_lots(tx, account.account_id, list(paid_by_lots))
            cheaper = [row for row in rows if row["usage_id"] in charged and _difference(row) < 0]
            otherwise = max(0, sum(row["cost_before_nanos"] for row in cheaper) - sum(paid_by_lots.values()))
            give_back(account, -amount, paid_by_lots, lots, otherwise, cause, ACTOR, now)
        await queries.insert_account_correction(
            tx,
            {
                "account_id": account.account_id,
                "correction_id": correction_id,
                "rerating_id": run.rerating_id,
                "part_no": part,
                "currency": account.currency,
                "amount_nanos": amount,
                "created_at": now,
            },
        )
        await queries.insert_usage_corrections(tx, rows)
        await write(tx, [account], now)
        return len(rows), amount

    async def _store(self, tx: Session, run: _Run) -> None:
        period = run.period
        await queries.insert_rerating(
            tx,
            {
                "rerating_id": run.rerating_id,
                "environment": period.environment,
                "since": period.since,
                "until": period.until,
                "price_version": period.version,
                "reason": run.reason,
                "created_at": utc_now(),
            },
        )
        facts = {"from": period.since, "to": period.until, "version": period.version}
        await self._audit(tx, run, "usage.rerate", facts)

    async def _audit(self, tx: Session, run: _Run, action: str, after: Mapping[str, Any]) -> None:
        await self._record(
            tx,
            action,
            "rerating",
            run.rerating_id,
            environment=run.period.environment,
            after=after,
            reason=run.reason,
            now=utc_now(),
            address="ciris-billing",
        )


def _is_in_force(change: Change, cost: Row) -> bool:
    new = change.new
    return (new.cost_nanos, new.provider_cost_nanos) == (cost["cost_nanos"], cost["provider_cost_nanos"])


def _difference(row: Row) -> int:
    return int(row["cost_after_nanos"] - row["cost_before_nanos"])


def _correction(account: LockedAccount, correction_id: UUID, change: Change, cost: Row) -> dict[str, Any]:
    return {
        "account_id": account.account_id,
        "usage_id": change.usage_id,
        "correction_no": cost["correction_no"] + 1,
        "correction_id": correction_id,
        "cost_before_nanos": cost["cost_nanos"],
        "cost_after_nanos": change.new.cost_nanos,
        "provider_cost_before_nanos": cost["provider_cost_nanos"],
        "provider_cost_after_nanos": change.new.provider_cost_nanos,
        "price_version": change.new.price_version,
        "price": change.new.price,
    }
