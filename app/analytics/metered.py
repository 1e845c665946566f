"""Metered sums: usage events, and the credits that grants paid, added to the sums by day.

An event counts on the day when it occurred, even if it arrives later. Both kinds of sums are complete up to a separate
mark (`rollup_state.metered_up_to`), which follows `rolled_up_to`: a worker of a version before 0034 moves only the
latter. Readers add the entries above the mark, as they do for the other sums.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app.analytics.activity import link_days
from app.analytics.sources import METERED_KEY, METERED_SUMS, USES_KEY, first_id_at, granted_uses, metered
from app.db import Session, time_of
from app.db.sql import sql

FIRST_SPAN = timedelta(minutes=10)
_SUMS = ", ".join(METERED_SUMS)
_ADD_EVENTS = text(
    sql(
        """
    WITH reported AS MATERIALIZED ({metered}),
    days AS (
        INSERT INTO metered_days AS d ({key}, {sums})
        SELECT {key}, {added} FROM reported GROUP BY {key}
            ON CONFLICT ({key}) DO UPDATE SET {replaced}),
    accounts_used AS (
        INSERT INTO account_days AS d (account_id, day, environment, cohort_week, uses, credits, events, cost_nanos)
        SELECT account_id, day, environment, cohort_week, 0, 0, sum(events), sum(cost_nanos)
          FROM reported WHERE events > 0 GROUP BY 1, 2, 3, 4
            ON CONFLICT (account_id, day) DO UPDATE
           SET events = d.events + excluded.events, cost_nanos = d.cost_nanos + excluded.cost_nanos
        RETURNING account_id, day, xmax = 0 AS is_new)
    SELECT account_id, day FROM accounts_used WHERE is_new
    """,
        metered=metered(":after"),
        key=METERED_KEY,
        sums=_SUMS,
        added=", ".join(f"sum({name})" for name in METERED_SUMS),
        replaced=", ".join(f"{name} = d.{name} + excluded.{name}" for name in METERED_SUMS),
    )
)
_ADD_GRANTS = text(
    sql(
        """
    INSERT INTO usage_days AS d ({key}, uses, daily_free, free, paid, product_free, product_paid, grants)
    SELECT {key}, 0, 0, 0, 0, 0, 0, sum(grants) FROM ({granted_uses}) g GROUP BY {key}
        ON CONFLICT ({key}) DO UPDATE SET grants = d.grants + excluded.grants
    """,
        key=USES_KEY,
        granted_uses=granted_uses(":after"),
    )
)
_FIND_END_OF_USES = text(
    """
    SELECT least(
        CAST(:until AS uuid),
        (SELECT charge_id FROM charges
          WHERE charge_id >= :after AND from_grants > 0 ORDER BY charge_id OFFSET :rows LIMIT 1),
        (SELECT usage_log_id FROM product_usage_log
          WHERE usage_log_id >= :after ORDER BY usage_log_id OFFSET :rows LIMIT 1))
    """
)
_FIND_END_OF_EVENTS = text(
    """
    SELECT usage_id FROM usage_events
     WHERE usage_id >= :after AND usage_id < :bound ORDER BY usage_id OFFSET :rows LIMIT 1
    """
)


async def add_metered(tx: Session, after: UUID, until: UUID, rows: int) -> UUID:
    """Add about `rows` events and uses in [after, until) to the sums. Return the end of what is added.

    The caller has locked the state of the roll-up, and moves the mark.
    """
    values = {"after": after, "until": until, "rows": rows}
    end: UUID = (await tx.execute(_FIND_END_OF_USES, values)).scalar_one()
    before = await _find_end_of_events(tx, after, end, rows)
    window = {"after": after, "before": before}
    await link_days(tx, await tx.execute(_ADD_EVENTS, window))
    await tx.execute(_ADD_GRANTS, window)
    return before


async def _find_end_of_events(tx: Session, after: UUID, until: UUID, rows: int) -> UUID:
    """Return the end of a step of at most `rows` events, at most `until`.

    The ids of events have an index of block ranges, which has no order: a window of time bounds what is sorted. It
    widens until it has enough events, so idle years take few statements.
    """
    span, start = FIRST_SPAN, time_of(after)
    while True:
        bound = min(until, first_id_at(start + span))
        values = {"after": after, "bound": bound, "rows": rows}
        end: UUID | None = (await tx.execute(_FIND_END_OF_EVENTS, values)).scalar_one_or_none()
        if end is not None:
            return end
        if bound == until:
            return until
        span *= 4
