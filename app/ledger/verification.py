"""Verification: proves over the whole database that every balance is the sum of its entries, in one snapshot.

Each check is one query for rows that must not exist, and names the first of them. Nothing is repaired: an operator
decides about a mismatch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from app.clock import utc_now
from app.db import Base, Database, new_id
from app.ledger import queries
from app.ledger.checks import Proof, compose

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a run: the numbers of accounts and entries that it read, and the first problem or None."""

    started_at: datetime
    finished_at: datetime
    accounts: int
    entries: int
    problem: str | None

    @property
    def ok(self) -> bool:
        return self.problem is None


def expected_constraints() -> Iterable[tuple[str, str]]:
    """Yield (table, name) of every constraint that the models declare, and of the trigger that guards the ledger."""
    yield "ledger_entries", "ledger_entries_append_only"
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            if isinstance(constraint.name, str):
                yield table.name, constraint.name


async def verify_ledger(
    db: Database,
    now: datetime,
    proofs: Sequence[Proof],
    on_progress: Callable[[int, int], None],
) -> Verification:
    """Run the checks of the ledger and of the packages' `proofs`, and record the outcome. Stops at the first problem.

    `app.verification.verify_books` passes the proofs of all packages: without them, entries of other packages have no
    cause. Reads only, in one snapshot. The duration grows with the ledger. Calls `on_progress` with the numbers of
    finished checks and of all checks.
    """
    problem = None
    checks = compose(proofs)
    async with db.snapshot() as snapshot:
        accounts, entries = await queries.count_ledger(snapshot)
        missing = await queries.first_missing_constraint(snapshot, list(expected_constraints()))
        if missing is not None:
            problem = f"the schema lacks {missing}"
        for number, (name, sql) in enumerate(checks.items() if problem is None else ()):
            on_progress(number, len(checks))
            culprit = await queries.first_culprit(snapshot, sql)
            if culprit is not None:
                problem = f"{name}: {culprit}"
                break
    verification = Verification(now, utc_now(), accounts, entries, problem)
    async with db.transaction() as tx:
        await queries.insert_verification(
            tx,
            {
                "verification_id": new_id(),
                "started_at": verification.started_at,
                "finished_at": verification.finished_at,
                "ok": verification.ok,
                "accounts": accounts,
                "entries": entries,
                "problem": problem,
            },
        )
    if problem is None:
        log.info("ledger_verified", accounts=accounts, entries=entries)
    else:
        log.error("ledger_mismatch", problem=problem)
    return verification


async def last_verification(db: Database) -> Verification | None:
    """Return the latest recorded run of any process."""
    row = await queries.find_last_verification(db)
    if row is None:
        return None
    names = ("started_at", "finished_at", "accounts", "entries", "problem")
    return Verification(**{name: row[name] for name in names})
