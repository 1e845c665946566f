"""Sources of reports: SQL that reads the books' entries with ids in [after, before).

Ids are UUIDv7, created at the moment of writing. `created_at` decides on the day.
"""

from uuid import UUID

from sqlalchemy import text

from app.db import Session
from app.db import first_id_at as first_id_at
from app.db.sql import sql

NO_ID, ALL_IDS = UUID(int=0), UUID(int=2**128 - 1)


_ACCOUNT = """
    a.account_id, a.environment, a.currency,
    CAST(date_trunc('week', a.created_at AT TIME ZONE 'UTC') AS date) AS cohort_week"""
USES_KEY = "environment, day, product_type, key_id, agent_id, currency"
"""The dimensions of uses."""


def uses(after: str = ":after", before: str = ":before") -> str:
    """Return SQL for every use, once. A tool use that the main pool pays is in two books; here it is the tool's use.

    `grants`, the credits that grants paid, are in the sums up to another mark than the rest: see `granted_uses`.
    """
    return sql(
        """
        SELECT {account}, CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day, '' AS product_type,
               CASE WHEN e.actor_type = 'api_key' THEN e.actor_id ELSE '' END AS key_id,
               coalesce(c.metadata ->> 'agent_id', '') AS agent_id,
               c.from_daily_free AS daily_free, c.from_free AS free, c.from_paid AS paid, c.cost AS credits,
               0 AS product_free, 0 AS product_paid, c.from_grants AS grants
          FROM charges c
          JOIN accounts a ON a.account_id = c.account_id
          JOIN ledger_entries e ON e.account_id = c.account_id AND e.entry_no = c.entry_no
         WHERE c.charge_id >= {after} AND c.charge_id < {before} AND c.operation = 'charge'
         UNION ALL
        SELECT {account}, CAST(u.created_at AT TIME ZONE 'UTC' AS date), u.product_type,
               CASE WHEN u.actor_type = 'api_key' THEN u.actor_id ELSE '' END, '',
               coalesce(c.from_daily_free, 0), coalesce(c.from_free, 0), coalesce(c.from_paid, 0), coalesce(c.cost, 0),
               CAST(u.source = 'free' AS int), CAST(u.source = 'paid' AS int), coalesce(c.from_grants, 0)
          FROM product_usage_log u
          JOIN accounts a ON a.account_id = u.account_id
          LEFT JOIN charges c ON c.account_id = u.account_id AND c.charge_id = u.charge_id
         WHERE u.usage_log_id >= {after} AND u.usage_log_id < {before}
    """,
        account=_ACCOUNT,
        after=after,
        before=before,
    )


def granted_uses(after: str = ":metered_up_to", before: str = ":before") -> str:
    """Return SQL for the uses that grants paid or helped to pay. `metered_up_to` is the mark of their sums."""
    return sql("SELECT {key}, grants FROM ({uses}) u WHERE grants > 0", key=USES_KEY, uses=uses(after, before))


METERED_KEY = "environment, day, currency, meter, provider, model, agent_id, key_id"
"""The dimensions of usage events."""
METERED_SUMS = (
    *("events", "refused", "cost_nanos", "recorded_nanos", "debt_nanos", "provider_cost_nanos", "margin_nanos"),
    "without_provider_cost",
)


MAX_KEY_BYTES, MAX_KEY_CHARS = 2_400, 200
"""An entry of an index has at most 2,704 bytes. Names of up to 255 characters have up to 1,020 bytes each."""


def _bounded_name(column: str) -> str:
    """Return SQL for a name of a usage event as part of a key: shortened if the three names are too long together."""
    name = f"coalesce(e.{column}, '')"
    return f"""CASE WHEN octet_length(concat(e.provider, e.model, e.agent_id)) > {MAX_KEY_BYTES}
                    THEN left({name}, {MAX_KEY_CHARS}) ELSE {name} END AS {column}"""


def metered(after: str = ":metered_up_to", before: str = ":before") -> str:
    """Return SQL for every usage event: the day when it occurred, and what it adds to each sum.

    The margin is what was charged less the cost at list prices, of the events whose cost at list prices is known.
    """
    return sql(
        """
        SELECT {account}, CAST(e.occurred_at AT TIME ZONE 'UTC' AS date) AS day, e.meter,
               {names}, coalesce(e.key_id, '') AS key_id,
               CAST(e.status <> 'refused' AS int) AS events, CAST(e.status = 'refused' AS int) AS refused,
               CASE WHEN e.status IN ('charged', 'debt') THEN e.cost_nanos ELSE 0 END AS cost_nanos,
               CASE WHEN e.status = 'recorded' THEN e.cost_nanos ELSE 0 END AS recorded_nanos, e.debt_nanos,
               CASE WHEN e.status = 'refused' THEN 0 ELSE coalesce(e.provider_cost_nanos, 0) END AS provider_cost_nanos,
               CASE WHEN e.status = 'refused' OR e.provider_cost_nanos IS NULL THEN 0
                    WHEN e.status = 'recorded' THEN -e.provider_cost_nanos
                    ELSE e.cost_nanos - e.provider_cost_nanos END AS margin_nanos,
               CAST(e.status <> 'refused' AND e.provider_cost_nanos IS NULL AS int) AS without_provider_cost
          FROM usage_events e JOIN accounts a ON a.account_id = e.account_id
         WHERE e.usage_id >= {after} AND e.usage_id < {before}
    """,
        account=_ACCOUNT,
        names=", ".join(map(_bounded_name, ("provider", "model", "agent_id"))),
        after=after,
        before=before,
    )


COUNTS = ("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents")
PARTS = tuple(f"{part}_{name}" for part in ("called", "summary") for name in COUNTS)
"""The parts of the counts: the sums of the calls, and the greatest of the summaries."""
_REPORTED = {"cost_cents": "actual_cost_cents"}
MAX_MODELS = 100
"""The most models of an interaction, first by name: more than fit into the 255 characters of `model`."""


def interactions(after: str = ":after", before: str = ":before", *, from_the_beginning: bool = False) -> str:
    """Return SQL for the interactions with reports in [after, before), as of all reports below `before`.

    A report of at most one call is a call, one of several calls is a summary. An interaction counts as the greater of
    its calls' sum and its largest summary, so neither the order of reports nor a missing kind matters. Earlier reports
    come from their stored sums, unless there are none: each report is read once, however many an interaction has.
    """

    def part(name: str) -> str:
        column = _REPORTED.get(name, f"total_{name}")
        return f"""coalesce(sum({column}) FILTER (WHERE total_llm_calls <= 1), 0) AS called_{name},
                   coalesce(CAST(max({column}) FILTER (WHERE total_llm_calls > 1) AS numeric), 0) AS summary_{name}"""

    window = f"usage_log_id >= {after} AND usage_log_id < {before}"
    new = sql(
        """(
        SELECT * FROM (SELECT account_id, interaction_id, min(created_at) AS started_at,
                              (array_agg(usage_log_id ORDER BY usage_log_id))[1] AS first_usage_log_id,
                              {counted}
                         FROM llm_usage WHERE {window} GROUP BY account_id, interaction_id) counted
          LEFT JOIN (SELECT account_id, interaction_id, array_agg(DISTINCT m.name) AS models
                       FROM llm_usage CROSS JOIN unnest(models_used) AS m (name) WHERE {window}
                      GROUP BY account_id, interaction_id) named USING (account_id, interaction_id))""",
        counted=", ".join(part(name) for name in COUNTS),
        window=window,
    )
    if from_the_beginning:
        source, models = f"{new} t", "t.models"
    else:
        parts = [f"n.called_{name} + coalesce(i.called_{name}, 0) AS called_{name}" for name in COUNTS]
        parts += [f"greatest(n.summary_{name}, i.summary_{name}) AS summary_{name}" for name in COUNTS]
        source, models = (
            sql(
                """(
            SELECT account_id, interaction_id, least(n.started_at, i.started_at) AS started_at,
                   least(n.first_usage_log_id, i.first_usage_log_id) AS first_usage_log_id,
                   {merged}, n.models AS new_models, i.models AS old_models
              FROM {new} n LEFT JOIN llm_interactions i USING (account_id, interaction_id)) t""",
                merged=", ".join(parts),
                new=new,
            ),
            "t.old_models || t.new_models",
        )
    return sql(
        """
        SELECT t.account_id, t.interaction_id, a.environment, a.currency,
               CAST(t.started_at AT TIME ZONE 'UTC' AS date) AS day,
               left(array_to_string(m.models, ' + '), 255) AS model, m.models, t.first_usage_log_id, t.started_at,
               {counts},
               {parts}
          FROM {source}
          JOIN accounts a ON a.account_id = t.account_id
         CROSS JOIN LATERAL (SELECT ARRAY(SELECT DISTINCT u.name FROM unnest({models}) AS u (name)
                                           ORDER BY u.name LIMIT {max_models}) AS models) m
    """,
        counts=", ".join(f"greatest(t.called_{name}, t.summary_{name}) AS {name}" for name in COUNTS),
        parts=", ".join(f"t.{name}" for name in PARTS),
        source=source,
        models=models,
        max_models=MAX_MODELS,
    )


_MARKS = text("SELECT rolled_up_to, attributed_up_to, metered_up_to FROM rollup_state WHERE name = 'analytics'")


async def find_marks(db: Session) -> dict[str, UUID]:
    """Return the marks of the sums, and an end above all ids: the values of statements of reports."""
    row = (await db.execute(_MARKS)).one()
    return {
        "after": row.rolled_up_to,
        "attributed_up_to": row.attributed_up_to,
        "metered_up_to": row.metered_up_to,
        "before": ALL_IDS,
    }
