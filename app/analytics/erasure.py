"""Erasure: replaces the names that callers gave an erased account's interactions."""

from uuid import UUID

from sqlalchemy import text

from app.analytics.rollup import lock_state
from app.db import Database

INTERACTIONS_AT_ONCE = 100  # each has a few dozen reports

# An interaction's reports stay together under a new name: the id of the first one, or a random one if a caller has
# used that id as the name of an interaction.
_RENAME_INTERACTIONS = text(
    """
    WITH page AS (
        SELECT interaction_id, CASE WHEN taken THEN CAST(gen_random_uuid() AS text) ELSE name END AS name
          FROM (SELECT interaction_id, name,
                       name <> interaction_id AND EXISTS (
                           SELECT FROM llm_usage x
                            WHERE x.account_id = :account_id AND x.interaction_id = name) AS taken
                  FROM (SELECT interaction_id, min(CAST(usage_log_id AS text)) AS name FROM llm_usage
                         WHERE account_id = :account_id AND interaction_id > :after
                         GROUP BY interaction_id ORDER BY interaction_id LIMIT :limit) first) named),
    counted AS (
        UPDATE llm_interactions i SET interaction_id = page.name FROM page
         WHERE i.account_id = :account_id AND i.interaction_id = page.interaction_id),
    renamed AS (
        UPDATE llm_usage u SET interaction_id = page.name, call_id = NULL FROM page
         WHERE u.account_id = :account_id AND u.interaction_id = page.interaction_id)
    SELECT max(interaction_id) FROM page
    """
)


async def forget_interactions(db: Database, account_id: UUID) -> None:
    """Rename the interactions of an erased account, in the reports and in the sums, some at a time.

    Each transaction locks the state of the roll-up, which would otherwise count what it is reading under the old name.
    Idempotent.
    """
    after: str | None = ""
    while after is not None:
        async with db.transaction() as tx:
            await lock_state(tx)
            values = {"account_id": account_id, "after": after, "limit": INTERACTIONS_AT_ONCE}
            after = (await tx.execute(_RENAME_INTERACTIONS, values)).scalar_one()
