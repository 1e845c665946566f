"""Feeds: the watched accounts of a process, read by one query every POLL_S.

A feed has its account's last reading: the balance, and the entries that were new. Streams take from it what they have
not sent, and read the ledger themselves where they are further behind. While no account is watched there is no task and
no query.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import structlog

from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.ending import end
from app.errors import describe, is_database_unavailable
from app.http.schemas import MAX_INT64
from app.ledger import approval_queries
from app.live import events, queries
from app.live.approvals import AccountApprovals
from app.live.queries import Seen
from app.live.schemas import BalanceState, EntryState

POLL_S = 0.5
ENTRIES_PER_ACCOUNT = 500
"""Of one account in one reading, so that none delays the others. The rest is read at once."""
ROWS_PER_POLL = 5_000
PAGE = 64
"""Changes in one write of a stream, some 60 kB, and so in its own readings when it is behind. A connection that is not
read holds so much, beside the server's buffer."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Change:
    """A ledger entry, as its event. All streams of the account send the same bytes."""

    entry_no: int
    event: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """An account's row, its balance as an event's data, and the changes after a number, without a gap."""

    row: Mapping[str, Any]
    balance: str
    changes: Sequence[Change]

    @property
    def entry_no(self) -> int:
        """The last entry that the row includes. The changes may end before it."""
        number: int = self.row["last_entry_no"]
        return number

    @property
    def is_closed(self) -> bool:
        return bool(self.row["status"] == "closed")


@dataclass(slots=True, eq=False)
class Feed:
    """A watched account. `reading` is None until its first stream has read it."""

    account_id: UUID
    watchers: set[Callable[[], None]] = field(default_factory=set)
    reading: Reading | None = None
    through: int = 0
    """The last entry that the feed has seen: readings continue after it."""
    approvals: AccountApprovals = field(default_factory=AccountApprovals)
    restarts: int = 0
    """Times that the account had fewer entries than before: its database was restored to an earlier moment."""

    def start(self, reading: Reading) -> None:
        """Take what a new stream has read. The entries of a feed that has begun still come by its next reading."""
        if self.reading is None:
            self.reading, self.through = reading, reading.entry_no
        elif reading.entry_no >= self.reading.entry_no:
            self.reading = Reading(reading.row, reading.balance, self.reading.changes)

    def accept(self, reading: Reading) -> bool:
        """Take a reading. Return whether it may be incomplete, so that the next should follow at once."""
        if reading.entry_no < self.through:
            self.restarts += 1
            self.through = reading.entry_no
        elif reading.changes:
            self.through = reading.changes[-1].entry_no
        self.reading = reading
        self.wake()
        return bool(reading.changes) and self.through < reading.entry_no

    def forget_changes(self) -> None:
        """Free what the streams have sent since. One that has not reads it itself."""
        if self.reading is not None and self.reading.changes:
            self.reading = Reading(self.reading.row, self.reading.balance, ())

    def changes_after(self, entry_no: int) -> Sequence[Change] | None:
        """Return the changes after `entry_no` up to `through`. None: the last reading does not have them."""
        changes = self.reading.changes if self.reading is not None else ()
        if not changes or not changes[0].entry_no - 1 <= entry_no < changes[-1].entry_no == self.through:
            return None
        return changes[entry_no + 1 - changes[0].entry_no :]

    def wake(self) -> None:
        for watcher in self.watchers:
            watcher()


class Feeds:
    """The feeds of one process."""

    def __init__(self, db: Database, configuration: Configuration) -> None:
        self._db = db
        self._configuration = configuration
        self._feeds: dict[UUID, Feed] = {}
        self._task: asyncio.Task[None] | None = None
        self._day: tuple[int, date] | None = None
        self._is_failing = False
        self._catching_up = asyncio.Lock()

    @contextmanager
    def watch(self, account_id: UUID, wake: Callable[[], None]) -> Iterator[Feed]:
        """Watch an account for as long as the block runs. `wake` is called when something may have changed."""
        feed = self._feeds.setdefault(account_id, Feed(account_id))
        feed.watchers.add(wake)
        if self._task is None:
            # An empty context: log lines of the readings do not belong to the request that began them.
            self._task = asyncio.create_task(self._run(), context=Context())
        try:
            yield feed
        finally:
            feed.watchers.discard(wake)
            if not feed.watchers:
                del self._feeds[account_id]

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def read(self, account_id: UUID, after: int | None = None) -> Reading | None:
        """Read an account, and a page of the changes after an entry. None if it does not exist.

        Pages are read one at a time, in the order of their requests. So clients that have missed much delay neither
        each other nor the point reads of charges.
        """
        if after is None:
            return await self._read_account(account_id, MAX_INT64)
        async with self._catching_up:
            return await self._read_account(account_id, after)

    async def _read_account(self, account_id: UUID, after: int) -> Reading | None:
        readings, _ = await self._read([Seen(account_id, after, "", reread=True, approvals="")], PAGE)
        return readings.get(account_id)

    async def _run(self) -> None:
        """Read while an account is watched. A failure is logged once, and tried again."""
        clock = asyncio.get_running_loop().time
        try:
            while self._feeds:
                began_s, is_behind = clock(), False
                try:
                    is_behind = await self._poll()
                    self._is_failing = False
                except Exception as error:  # any error: if this task ended, no stream would have another event
                    if not is_database_unavailable(error):
                        log.error("feeds_failed", exc_info=error)
                    elif not self._is_failing:
                        log.warning("feeds_not_read", error=describe(error))
                    self._is_failing = True
                if not is_behind:
                    await asyncio.sleep(max(0.0, began_s + POLL_S - clock()))
        finally:
            self._task = None

    async def _poll(self) -> bool:
        """Read what changed, once for all feeds. Return whether some of it is left."""
        now = utc_now()
        seen = [
            Seen(
                feed.account_id,
                feed.through,
                feed.reading.row["status"],
                reread=_is_due(feed.reading.row, now),
                approvals=feed.approvals.digest,
            )
            for feed in self._feeds.values()
            if feed.reading is not None
        ]
        readings, is_behind = await self._read(seen, ENTRIES_PER_ACCOUNT) if seen else ({}, False)
        before = {known.account_id: known.entry_no for known in seen}
        for feed in self._feeds.values():
            reading = readings.get(feed.account_id)
            if reading is None:
                feed.forget_changes()
            elif feed.through == before[feed.account_id]:  # else another feed of the same account began
                is_behind |= feed.accept(reading)
        await self._read_approvals(readings)
        await self._renew()
        return is_behind

    async def _read_approvals(self, readings: Mapping[UUID, Reading]) -> None:
        """Read the approvals of the accounts in which some have changed, by one statement. None have: no statement."""
        digests = {account_id: reading.row["approvals"] for account_id, reading in readings.items()}
        changed = [
            feed
            for feed in self._feeds.values()
            if feed.account_id in digests and digests[feed.account_id] != feed.approvals.digest
        ]
        if not changed:
            return
        now = utc_now()
        known = [(feed.account_id, approval_id) for feed in changed for approval_id in feed.approvals.known]
        found = await approval_queries.find_watched(self._db, [feed.account_id for feed in changed], known, now)
        for feed in changed:
            of_account = [approval for approval in found if approval.account_id == feed.account_id]
            feed.approvals.accept(of_account, digests[feed.account_id], now)
            feed.wake()

    async def _renew(self) -> None:
        """State all balances again once a day or another allowance of daily free uses begins, which writes no entry."""
        allowance, today = await self._allowance(), utc_now().date()
        if self._day not in (None, (allowance, today)):
            for feed in self._feeds.values():
                if feed.reading is not None:
                    balance = _balance(feed.reading.row, allowance, today)
                    feed.reading = Reading(feed.reading.row, balance, feed.reading.changes)
                    feed.wake()
        self._day = (allowance, today)

    async def _allowance(self) -> int:
        return (await self._configuration.current()).defaults.daily_free_uses

    async def _read(self, seen: Sequence[Seen], entries: int) -> tuple[dict[UUID, Reading], bool]:
        """Return the readings of the accounts that changed, and whether there were too many rows for one statement."""
        now, allowance = utc_now(), await self._allowance()
        rows = await queries.find_changes(self._db, seen, now, entries_per_account=entries, limit=ROWS_PER_POLL)
        by_account: defaultdict[UUID, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            by_account[row["account_id"]].append(row)
        readings = {}
        for known in seen:
            if of_account := by_account.get(known.account_id):
                balance = _balance(of_account[0], allowance, now.date())
                changes = _contiguous(of_account, known.entry_no, balance)
                readings[known.account_id] = Reading(of_account[0], balance, changes)
        return readings, len(rows) == ROWS_PER_POLL


def _is_due(row: Mapping[str, Any], now: datetime) -> bool:
    """Return whether a grant has expired: the row alone does not say what remains."""
    due: datetime | None = row["grants_expire_at"]
    return due is not None and due <= now


def _balance(row: Mapping[str, Any], allowance: int, today: date) -> str:
    return BalanceState.of(row, allowance=allowance, today=today).model_dump_json()


def _contiguous(rows: Sequence[Mapping[str, Any]], after: int, balance: str) -> Sequence[Change]:
    """Return the changes that follow `after` without a gap: the rows of an account may have been cut anywhere."""
    numbered = {row["entry_no"]: row for row in rows if row["entry_no"] is not None}
    changes: list[Change] = []
    while (row := numbered.get(after + len(changes) + 1)) is not None:
        entry = EntryState.of(row).model_dump_json()
        changes.append(Change(row["entry_no"], events.change(entry, balance, row["entry_no"])))
    return changes
