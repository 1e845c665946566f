"""The rules' SQL: one statement a function. It reads tables of other packages and changes none of them.

Each rule reads a bounded part of its table by an index: the newest accounts, the sales of a few days, one day's sums.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.analytics.rollup import SETTLED
from app.analytics.sources import first_id_at
from app.db import Session
from app.risk.models import Alert, AlertRule

Row = Mapping[str, Any]
MAX_FINDINGS = 200
"""Per rule and run, the highest values first. A later run finds the others once these are decided."""
MAX_ACCOUNTS = 500
"""The most accounts that one finding, and one alert, can name."""
MAX_NEW_ACCOUNTS = 200_000
"""The newest accounts, which the rule about keys reads."""
MAX_SPENDERS = 50_000
"""The accounts with the highest spending of an environment and day, whose past the rule about spikes reads."""
PAST_DAYS = 28
LEAST_PAST_DAYS = 3
_RULE = list(AlertRule.__table__.columns)
_ALERT = list(Alert.__table__.columns)

# An account's first entry in the ledger names the actor that opened it. Account ids grow with time.
_ACCOUNTS_PER_KEY = text(
    """
    WITH made AS (
        SELECT account_id, environment FROM accounts
         WHERE account_id >= :first_id ORDER BY account_id DESC LIMIT :max_accounts)
    SELECT made.environment, e.actor_id AS subject, count(*) AS observed, CAST(NULL AS bigint) AS usual,
           CAST('{}' AS uuid[]) AS account_ids
      FROM made JOIN ledger_entries e ON e.account_id = made.account_id AND e.entry_no = 1
     WHERE e.actor_type = 'api_key'
     GROUP BY made.environment, e.actor_id HAVING count(*) >= :threshold
     ORDER BY observed DESC LIMIT :limit
    """
).bindparams(max_accounts=MAX_NEW_ACCOUNTS)
_PURCHASES_PER_CARD = text(
    """
    SELECT environment, left(encode(sha256(convert_to(card_fingerprint, 'UTF8')), 'hex'), 16) AS subject,
           count(*) AS observed, CAST(NULL AS bigint) AS usual,
           (array_agg(DISTINCT account_id ORDER BY account_id DESC))[1:CAST(:named AS int)] AS account_ids
      FROM purchases
     WHERE card_fingerprint IS NOT NULL AND created_at >= :since
     GROUP BY environment, card_fingerprint HAVING count(*) >= :threshold
     ORDER BY observed DESC LIMIT :limit
    """
).bindparams(named=MAX_ACCOUNTS)
_REFUNDS_PER_ACCOUNT = text(
    """
    SELECT environment, CAST(account_id AS text) AS subject, count(*) AS observed, CAST(NULL AS bigint) AS usual,
           ARRAY[account_id] AS account_ids
      FROM purchases
     WHERE refunded_minor > 0 AND updated_at >= :since
     GROUP BY environment, account_id HAVING count(*) >= :threshold
     ORDER BY observed DESC LIMIT :limit
    """
)
# The account's usual rate is its spending on a day with any spending.
_SPEND_SPIKE = text(
    """
    SELECT e.environment, CAST(d.account_id AS text) AS subject, d.credits AS observed,
           CAST(past.credits / past.days AS bigint) AS usual, ARRAY[d.account_id] AS account_ids
      FROM (VALUES ('live'), ('test')) AS e (environment)
     CROSS JOIN LATERAL (
        SELECT account_id, credits FROM account_days
         WHERE environment = e.environment AND day = :day AND credits >= greatest(:minimum, 1)
         ORDER BY credits DESC LIMIT :max_spenders) d
     CROSS JOIN LATERAL (
        SELECT sum(p.credits) AS credits, count(*) AS days FROM account_days p
         WHERE p.account_id = d.account_id AND p.day >= CAST(:day AS date) - CAST(:past_days AS int) AND p.day < :day
           AND p.credits > 0) past
     WHERE past.days >= :least_past_days AND d.credits * past.days >= :threshold * past.credits
     ORDER BY d.credits DESC LIMIT :limit
    """
).bindparams(max_spenders=MAX_SPENDERS, past_days=PAST_DAYS, least_past_days=LEAST_PAST_DAYS)


def _since_id(rule: Row, now: datetime) -> Row:
    return {"first_id": first_id_at(now - timedelta(hours=rule["window_h"]))}


def _since(rule: Row, now: datetime) -> Row:
    return {"since": now - timedelta(hours=rule["window_h"])}


def _day(rule: Row, now: datetime) -> Row:
    """Return the day up to which sums are complete. Right after midnight that is the whole day before."""
    return {"day": (now - 2 * SETTLED).date(), "minimum": rule["minimum"]}


FINDERS: Mapping[str, tuple[Any, Callable[[Row, datetime], Row]]] = {
    "accounts_per_key": (_ACCOUNTS_PER_KEY, _since_id),
    "purchases_per_card": (_PURCHASES_PER_CARD, _since),
    "refunds_per_account": (_REFUNDS_PER_ACCOUNT, _since),
    "spend_spike": (_SPEND_SPIKE, _day),
}


async def find_unusual(db: Session, rule: Row, now: datetime) -> Sequence[Row]:
    """Return the rule's findings now: environment, subject, observed, usual, account_ids. At most MAX_FINDINGS."""
    statement, bounds = FINDERS[rule["rule"]]
    values = {"threshold": rule["threshold"], "limit": MAX_FINDINGS, **bounds(rule, now)}
    return [dict(row) for row in (await db.execute(statement, values)).mappings()]


async def list_rules(db: Session) -> Sequence[Row]:
    return [dict(row) for row in (await db.execute(select(*_RULE).order_by(AlertRule.rule))).mappings()]


async def lock_rule(tx: Session, rule: str) -> Row:
    query = select(*_RULE).where(AlertRule.rule == rule).with_for_update()
    return dict((await tx.execute(query)).mappings().one())


async def update_rule(tx: Session, rule: str, changes: Row) -> None:
    await tx.execute(update(AlertRule).where(AlertRule.rule == rule).values(**changes))


async def lock_latest_alert(tx: Session, found: Row) -> Row | None:
    """Return the open alert about the same subject, or else the newest. Lock it until commit."""
    query = (
        select(*_ALERT)
        .where(
            Alert.environment == found["environment"],
            Alert.rule == found["rule"],
            Alert.subject == found["subject"],
        )
        .order_by((Alert.status == "open").desc(), Alert.alert_id.desc())
        .limit(1)
        .with_for_update()
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def insert_alert(tx: Session, row: Row) -> bool:
    """Insert an alert. Return False if the day has one about the subject. Waits for a worker that is inserting it."""
    statement = (
        insert(Alert)
        .values(**row)
        .on_conflict_do_nothing(index_elements=["environment", "rule", "subject", "day"])
        .returning(Alert.alert_id)
    )
    return (await tx.execute(statement)).first() is not None


async def find_alert(db: Session, alert_id: UUID) -> Row | None:
    row = (await db.execute(select(*_ALERT).where(Alert.alert_id == alert_id))).mappings().one_or_none()
    return None if row is None else dict(row)


async def lock_alert(tx: Session, alert_id: UUID) -> Row | None:
    query = select(*_ALERT).where(Alert.alert_id == alert_id).with_for_update()
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def find_alert_that_stops(tx: Session, account_id: UUID, *, but: UUID) -> Row | None:
    """Return the newest alert but one for which the account has to be stopped. The account is locked."""
    query = (
        select(*_ALERT)
        .where(
            Alert.stopped.is_not(None),
            Alert.account_ids.contains([account_id]),
            ~Alert.exempt_ids.contains([account_id]),
            Alert.alert_id != but,
        )
        .order_by(Alert.alert_id.desc())
        .limit(1)
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def update_alert(tx: Session, alert_id: UUID, changes: Row) -> None:
    await tx.execute(update(Alert).where(Alert.alert_id == alert_id).values(**changes))


async def list_alerts(
    db: Session,
    *,
    before: UUID | None,
    limit: int,
    status: str | None = None,
    rule: str | None = None,
    environment: str | None = None,
) -> Sequence[Row]:
    """Return alerts, newest first. `before` is the last id of the previous page."""
    query = select(*_ALERT)
    if before is not None:
        query = query.where(Alert.alert_id < before)
    for column, value in ((Alert.status, status), (Alert.rule, rule), (Alert.environment, environment)):
        if value is not None:
            query = query.where(column == value)
    query = query.order_by(Alert.alert_id.desc()).limit(limit)
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def count_open(db: Session) -> Mapping[str, int]:
    """Return the numbers of open alerts by rule."""
    query = select(Alert.rule, func.count().label("open")).where(Alert.status == "open").group_by(Alert.rule)
    return {row.rule: row.open for row in (await db.execute(query)).all()}
