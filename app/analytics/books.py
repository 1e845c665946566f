"""The books as reports count them: SQL that reads what carries an id in [after, before).

Ids are UUIDv7, given at the moment of writing. `created_at` says to which day something belongs.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.db import Session

NO_ID, ALL_IDS = UUID(int=0), UUID(int=2**128 - 1)


def first_id_at(moment: datetime) -> UUID:
    """No UUIDv7 given at `moment` or later is lower."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def uses(after: str = ":after", before: str = ":before") -> str:
    """Every use, once. A tool use that the main pool pays stands in two books: here it is a use of the tool."""
    account = """
        a.account_id, a.environment, a.currency,
        CAST(date_trunc('week', a.created_at AT TIME ZONE 'UTC') AS date) AS cohort_week"""
    return f"""
        SELECT {account}, CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day, '' AS product_type,
               CASE WHEN e.actor_type = 'api_key' THEN e.actor_id ELSE '' END AS key_id,
               coalesce(c.metadata ->> 'agent_id', '') AS agent_id,
               c.from_daily_free AS daily_free, c.from_free AS free, c.from_paid AS paid, c.cost AS credits,
               0 AS product_free, 0 AS product_paid
          FROM charges c
          JOIN accounts a ON a.account_id = c.account_id
          JOIN ledger_entries e ON e.account_id = c.account_id AND e.entry_no = c.entry_no
         WHERE c.charge_id >= {after} AND c.charge_id < {before} AND c.operation = 'charge'
         UNION ALL
        SELECT {account}, CAST(u.created_at AT TIME ZONE 'UTC' AS date), u.product_type,
               CASE WHEN u.actor_type = 'api_key' THEN u.actor_id ELSE '' END, '',
               coalesce(c.from_daily_free, 0), coalesce(c.from_free, 0), coalesce(c.from_paid, 0), coalesce(c.cost, 0),
               CAST(u.source = 'free' AS int), CAST(u.source = 'paid' AS int)
          FROM product_usage_log u
          JOIN accounts a ON a.account_id = u.account_id
          LEFT JOIN charges c ON c.account_id = u.account_id AND c.charge_id = u.charge_id
         WHERE u.usage_log_id >= {after} AND u.usage_log_id < {before}
    """  # noqa: S608  (our own words)


def interactions(after: str = ":after", before: str = ":before") -> str:
    """The interactions of which something was reported in [after, before), as all reports below `before` tell them.

    A report of at most one call is a call, one of several sums up. An interaction counts as the greater of its calls'
    sum and its largest summary, so that neither order nor absence of either matters.
    """

    def counted(column: str) -> str:
        return f"""greatest(sum(u.{column}) FILTER (WHERE u.total_llm_calls <= 1),
                            CAST(max(u.{column}) FILTER (WHERE u.total_llm_calls > 1) AS numeric))"""

    return f"""
        SELECT t.account_id, t.interaction_id, a.environment, a.currency,
               CAST(t.started_at AT TIME ZONE 'UTC' AS date) AS day,
               coalesce((SELECT left(string_agg(DISTINCT m.name, ' + ' ORDER BY m.name), 255)
                           FROM llm_usage r CROSS JOIN unnest(r.models_used) AS m (name)
                          WHERE r.account_id = t.account_id AND r.interaction_id = t.interaction_id
                                AND r.usage_log_id < {before}), '') AS model,
               t.first_usage_log_id, t.started_at, t.llm_calls, t.prompt_tokens, t.completion_tokens, t.cost_cents
          FROM (SELECT u.account_id, u.interaction_id, min(u.created_at) AS started_at,
                       (array_agg(u.usage_log_id ORDER BY u.usage_log_id))[1] AS first_usage_log_id,
                       {counted("total_llm_calls")} AS llm_calls,
                       {counted("total_prompt_tokens")} AS prompt_tokens,
                       {counted("total_completion_tokens")} AS completion_tokens,
                       {counted("actual_cost_cents")} AS cost_cents
                  FROM (SELECT DISTINCT account_id, interaction_id FROM llm_usage
                         WHERE usage_log_id >= {after} AND usage_log_id < {before}) touched
                  JOIN llm_usage u ON u.account_id = touched.account_id AND u.interaction_id = touched.interaction_id
                 WHERE u.usage_log_id < {before}
                 GROUP BY u.account_id, u.interaction_id) t
          JOIN accounts a ON a.account_id = t.account_id
    """  # noqa: S608  (our own words)


_ROLLED_UP_TO = text("SELECT rolled_up_to FROM rollup_state WHERE name = 'analytics'")


async def find_rolled_up_to(db: Session) -> UUID:
    mark: UUID = (await db.execute(_ROLLED_UP_TO)).scalar_one()
    return mark
