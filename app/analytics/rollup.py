"""Roll-up: adds new entries of the books to the sums by day.

A step takes the entries with ids in [rolled_up_to, before), adds them and moves the mark, in one transaction: each use
is in the sums exactly once, even if two jobs run at once or one dies halfway. Readers add the entries above the mark.

That is exact as long as no entry below the mark is committed later. An id is created inside the transaction that writes
it; each of the transaction's few remaining statements, and each pause between them, ends after `database_timeout_s`
(3 s). The mark stays SETTLED behind the database's clock, several times what they can last together. Processes with a
clock that is seconds off create ids by the database's clock (app.db.new_id). If it ever fails, `ledger verify` reports
it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text

from app.analytics.activity import link_days
from app.analytics.attribution import attribute
from app.analytics.metered import add_metered
from app.analytics.sources import COUNTS, PARTS, first_id_at, interactions, uses
from app.db import Database, Session
from app.db.sql import sql

SETTLED = timedelta(seconds=60)
STEP_ROWS = 20_000
"""The most rows of each book in one transaction."""
STEPS_OF_A_MINUTE = 3
"""One of each kind, if the last roll-up was a minute ago."""
log = structlog.get_logger()

_LOCK_STATE = text(
    "SELECT rolled_up_to, attributed_up_to, metered_up_to FROM rollup_state WHERE name = 'analytics' FOR UPDATE"
)
# Only this role's transactions: others write no books.
_FIND_OLDEST_WRITER = text(
    """
    SELECT min(xact_start) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user AND backend_xid IS NOT NULL
    """
)
_MOVE_ON = text("UPDATE rollup_state SET rolled_up_to = :before WHERE name = 'analytics'")
_MOVE_ATTRIBUTION_ON = text("UPDATE rollup_state SET attributed_up_to = :before WHERE name = 'analytics'")
_MOVE_METERED_ON = text("UPDATE rollup_state SET metered_up_to = :before WHERE name = 'analytics'")
_BOOKS = (("charges", "charge_id"), ("product_usage_log", "usage_log_id"), ("llm_usage", "usage_log_id"))
_ENDS = ", ".join(
    sql(
        "(SELECT {name} FROM {table} WHERE {name} >= :after ORDER BY {name} OFFSET :rows LIMIT 1)",
        name=name,
        table=table,
    )
    for table, name in _BOOKS
)
_FIND_END = text(f"SELECT least(CAST(:until AS uuid), {_ENDS})")
_ADD_USES = text(
    sql(
        """
    WITH used AS MATERIALIZED ({uses}),
    usage AS (
        INSERT INTO usage_days AS d (environment, day, product_type, key_id, agent_id, currency, uses, daily_free, free,
                                     paid, product_free, product_paid)
        SELECT environment, day, product_type, key_id, agent_id, currency, count(*), sum(daily_free), sum(free),
               sum(paid), sum(product_free), sum(product_paid)
          FROM used GROUP BY 1, 2, 3, 4, 5, 6
            ON CONFLICT (environment, day, product_type, key_id, agent_id, currency) DO UPDATE
           SET uses = d.uses + excluded.uses, daily_free = d.daily_free + excluded.daily_free,
               free = d.free + excluded.free, paid = d.paid + excluded.paid,
               product_free = d.product_free + excluded.product_free,
               product_paid = d.product_paid + excluded.product_paid),
    cohorts AS (
        INSERT INTO cohort_weeks AS w (environment, cohort_week, week, active, credits)
        SELECT environment, cohort_week, CAST(date_trunc('week', CAST(day AS timestamp)) AS date), 0, sum(credits)
          FROM used GROUP BY 1, 2, 3
            ON CONFLICT (environment, cohort_week, week) DO UPDATE SET credits = w.credits + excluded.credits),
    accounts_used AS (
        INSERT INTO account_days AS d (account_id, day, environment, cohort_week, uses, credits)
        SELECT account_id, day, environment, cohort_week, count(*), sum(credits) FROM used GROUP BY 1, 2, 3, 4
            ON CONFLICT (account_id, day) DO UPDATE
           SET uses = d.uses + excluded.uses, credits = d.credits + excluded.credits
        RETURNING account_id, day, xmax = 0 AS is_new)
    SELECT account_id, day FROM accounts_used WHERE is_new
    """,
        uses=uses(),
    )
)
_COUNTS = ", ".join(COUNTS)
_STORED = f"first_usage_log_id, started_at, models, {', '.join((*COUNTS, *PARTS))}"
_STORE_INTERACTIONS = text(
    sql(
        """
    WITH recent AS MATERIALIZED ({interactions}),
    changes AS (
        SELECT environment, day, currency, model, 1 AS interactions, {counts} FROM recent
         UNION ALL
        SELECT i.environment, i.day, i.currency, i.model, -1, -i.llm_calls, -i.prompt_tokens, -i.completion_tokens,
               -i.cost_cents
          FROM recent t JOIN llm_interactions i ON i.account_id = t.account_id AND i.interaction_id = t.interaction_id),
    stored AS (
        INSERT INTO llm_interactions (account_id, interaction_id, environment, currency, day, model, {stored})
        SELECT account_id, interaction_id, environment, currency, day, model, {stored} FROM recent
            ON CONFLICT (account_id, interaction_id) DO UPDATE
           SET {replaced})
    INSERT INTO llm_days AS d (environment, day, currency, model, interactions, {counts})
    SELECT environment, day, currency, model, sum(interactions), sum(llm_calls), sum(prompt_tokens),
           sum(completion_tokens), sum(cost_cents)
      FROM changes GROUP BY 1, 2, 3, 4
        ON CONFLICT (environment, day, currency, model) DO UPDATE
       SET interactions = d.interactions + excluded.interactions, llm_calls = d.llm_calls + excluded.llm_calls,
           prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
           completion_tokens = d.completion_tokens + excluded.completion_tokens,
           cost_cents = d.cost_cents + excluded.cost_cents
    """,
        interactions=interactions(),
        counts=_COUNTS,
        stored=_STORED,
        replaced=", ".join(f"{name} = excluded.{name}" for name in ("day", "model", *_STORED.split(", "))),
    )
)


async def database_time(db: Database) -> datetime:
    row = await db.fetch_row("SELECT clock_timestamp() AS now")
    assert row is not None
    now: datetime = row["now"]
    return now


async def roll_up(db: Database, now: datetime) -> int:
    """Bring the sums up to SETTLED before `now`, and return the number of transactions.

    `db` must allow its statements longer than a request may take.
    """
    async with db.read() as session:
        oldest = (await session.execute(_FIND_OLDEST_WRITER)).scalar_one()
    settled = now - SETTLED
    until, steps = first_id_at(settled if oldest is None else min(settled, oldest)), 0
    for step in (partial(roll_up_step, until=until), attribute_step, meter_step):
        while True:
            async with db.transaction() as tx:
                if not await step(tx):
                    break
            steps += 1
    if steps > STEPS_OF_A_MINUTE:
        log.info("rolled_up", steps=steps)
    return steps


@dataclass(frozen=True, slots=True)
class Marks:
    """The ids below which the sums, the attribution and the metered sums are complete."""

    rolled_up_to: UUID
    attributed_up_to: UUID
    metered_up_to: UUID


async def lock_state(tx: Session) -> Marks:
    """Return the marks. Lock the state until commit."""
    return Marks(*(await tx.execute(_LOCK_STATE)).one())


async def roll_up_step(tx: Session, until: UUID, rows: int = STEP_ROWS) -> bool:
    """Add about `rows` of each book, below `until`. Lock the state until commit. Return False if nothing was left."""
    after = (await lock_state(tx)).rolled_up_to
    if after >= until:
        return False
    before = await _find_end(tx, after, until, rows)
    window = {"after": after, "before": before}
    await link_days(tx, await tx.execute(_ADD_USES, window))
    await tx.execute(_STORE_INTERACTIONS, window)
    await tx.execute(_MOVE_ON, {"before": before})
    return True


async def attribute_step(tx: Session, rows: int = STEP_ROWS) -> bool:
    """Attribute about `rows` of each book, up to the sums' mark. Lock the state until commit. Return False if done."""
    marks = await lock_state(tx)
    until, after = marks.rolled_up_to, marks.attributed_up_to
    if after >= until:
        return False
    before = await _find_end(tx, after, until, rows)
    await attribute(tx, {"after": after, "before": before})
    await tx.execute(_MOVE_ATTRIBUTION_ON, {"before": before})
    return True


async def meter_step(tx: Session, rows: int = STEP_ROWS) -> bool:
    """Add about `rows` usage events, and the credits that grants paid, up to the sums' mark. As `attribute_step`."""
    marks = await lock_state(tx)
    if marks.metered_up_to >= marks.rolled_up_to:
        return False
    before = await add_metered(tx, marks.metered_up_to, marks.rolled_up_to, rows)
    await tx.execute(_MOVE_METERED_ON, {"before": before})
    return True


async def _find_end(tx: Session, after: UUID, until: UUID, rows: int) -> UUID:
    """Return the end of a step of about so many rows of each book, at most `until`."""
    end: UUID = (await tx.execute(_FIND_END, {"after": after, "until": until, "rows": rows})).scalar_one()
    return end
