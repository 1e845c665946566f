"""Attribution: the model and the agent that an interaction's cost and paid credits belong to.

A charge by an API key belongs to the interaction that its idempotency key names: the interaction's id, or `charge:` and
the id, as the SDK forms it. Users and admins have separate key spaces, which name no interactions. The credits count on
the charge's day, the cost on the day of the interaction's first report.

A report of one call with one model belongs to that model. The rest of an interaction (calls with several models, and
the part of a summary beyond its calls) and its paid credits are split among its models: in proportion to the cost of
the models' own calls; without any cost, to their tokens; without any tokens, equally. Shares are rounded so that they
add up to the whole.

The shares are stored by interaction, and summed by day. Both are complete up to a separate mark
(`rollup_state.attributed_up_to`), which follows `rolled_up_to`: a worker of an older version moves only the latter.
An interaction with a report or a charge above the mark is stale: its shares are recomputed from all of its reports and
charges. Readers replace the shares of stale interactions, and so does each roll-up step.
"""

from sqlalchemy import text

from app.analytics.sources import COUNTS, interactions
from app.db import Session

SUMS = ("interactions", *COUNTS, "paid")
"""The sums of a share: the interaction itself, its calls, tokens and cost, and the paid credits of its charges."""
KEY = "account_id, interaction_id, day, agent_id, model"
DAY_KEY = "environment, day, currency, agent_id, model"
SDK_PREFIX = "charge:"
_COUNTS = ", ".join(COUNTS)
_SUMS = ", ".join(SUMS)
_PLACES = {"cost_cents": 10}
"""Decimal places of a share; calls and tokens are whole numbers."""
_STATE = f"account_id, interaction_id, environment, currency, day, models, {_COUNTS}"


def keys_of(interaction_id: str) -> str:
    """Return SQL for the idempotency keys that name an interaction. No key names two interactions."""
    return f"""(SELECT '{SDK_PREFIX}' || {interaction_id} AS key UNION ALL
                SELECT {interaction_id} WHERE {interaction_id} NOT LIKE '{SDK_PREFIX}%')"""


def stale(after: str, before: str) -> str:
    """Return SQL for the interactions with a report or a charge whose id is in [after, before)."""
    return f"""
        SELECT account_id, interaction_id FROM llm_usage WHERE usage_log_id >= {after} AND usage_log_id < {before}
         UNION
        SELECT c.account_id, k.interaction_id
          FROM charges c
         CROSS JOIN LATERAL (SELECT CASE WHEN c.idempotency_key LIKE '{SDK_PREFIX}%'
                                         THEN substr(c.idempotency_key, {len(SDK_PREFIX) + 1})
                                         ELSE c.idempotency_key END AS interaction_id) k
         CROSS JOIN LATERAL (SELECT FROM llm_usage u
                              WHERE u.account_id = c.account_id AND u.interaction_id = k.interaction_id LIMIT 1) known
         WHERE c.charge_id >= {after} AND c.charge_id < {before} AND c.operation = 'charge'
           AND c.idempotency_key IS NOT NULL AND c.caller_kind = 'key'
    """  # noqa: S608  (our own words, here and below)


def own_calls(condition: str) -> str:
    """Return SQL for the sums of single calls with one model, by interaction and model."""
    sums = ", ".join(
        f"sum({'actual_cost_cents' if name == 'cost_cents' else f'total_{name}'}) AS {name}" for name in COUNTS
    )
    return f"""
        SELECT account_id, interaction_id, models_used[1] AS model, {sums} FROM llm_usage
         WHERE {condition} AND total_llm_calls <= 1 AND cardinality(models_used) = 1
         GROUP BY account_id, interaction_id, models_used[1]"""  # noqa: S608


def _share_of_rest(name: str, whole: str) -> str:
    """Return SQL for a model's part of `whole`. The parts add up to it: each ends where the next one begins."""
    places = _PLACES.get(name, 0)
    return f"""round({whole} * up_to / of_all, {places}) - round({whole} * (up_to - weight) / of_all, {places})"""


def shares() -> str:
    """Return SQL for the shares of the interactions in `state`, whose models' own calls are in `calls`."""
    own = ", ".join(f"coalesce(c.{name}, 0) AS own_{name}, s.{name} AS all_{name}" for name in COUNTS)
    known = ", ".join(f"sum(own_{name}) OVER one AS known_{name}" for name in COUNTS)
    counted = ", ".join(
        f"own_{name} + {_share_of_rest(name, f'(all_{name} - known_{name})')} AS {name}" for name in COUNTS
    )
    none = ", ".join(f"0 AS {name}" for name in COUNTS)
    sums = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
    return f"""
        WITH named AS (
            SELECT s.account_id, s.interaction_id, s.environment, s.currency, s.day, m.model, m.n, {own}
              FROM state s
             CROSS JOIN LATERAL unnest(CASE WHEN cardinality(s.models) = 0 THEN ARRAY[''] ELSE s.models END)
                   WITH ORDINALITY AS m (model, n)
              LEFT JOIN calls c USING (account_id, interaction_id, model)),
        weighed AS (
            SELECT named.*, {known},
                   CASE WHEN sum(own_cost_cents) OVER one > 0 THEN own_cost_cents
                        WHEN sum(own_prompt_tokens + own_completion_tokens) OVER one > 0
                        THEN own_prompt_tokens + own_completion_tokens
                        ELSE 1 END AS weight
              FROM named WINDOW one AS (PARTITION BY account_id, interaction_id)),
        split AS (
            SELECT weighed.*, sum(weight) OVER (one ORDER BY n) AS up_to, sum(weight) OVER one AS of_all
              FROM weighed WINDOW one AS (PARTITION BY account_id, interaction_id)),
        charged AS (
            SELECT s.account_id, s.interaction_id, c.charge_id, c.from_paid, coalesce(c.agent_id, '') AS agent_id,
                   CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day
              FROM state s
             CROSS JOIN LATERAL {keys_of("s.interaction_id")} k
             CROSS JOIN LATERAL (
                SELECT charge_id, from_paid, metadata ->> 'agent_id' AS agent_id, created_at FROM charges
                 WHERE account_id = s.account_id AND operation = 'charge' AND idempotency_key = k.key
                   AND caller_kind = 'key' LIMIT 1) c),
        served AS (
            SELECT DISTINCT ON (account_id, interaction_id) account_id, interaction_id, agent_id
              FROM charged ORDER BY account_id, interaction_id, charge_id),
        parts AS (
            SELECT account_id, interaction_id, environment, currency, day, coalesce(agent_id, '') AS agent_id, model,
                   1 AS interactions, {counted}, 0 AS paid
              FROM split LEFT JOIN served USING (account_id, interaction_id)
             UNION ALL
            SELECT s.account_id, s.interaction_id, s.environment, s.currency, c.day, c.agent_id, s.model,
                   0, {none}, {_share_of_rest("cost_cents", "c.from_paid")}
              FROM split s JOIN charged c ON c.account_id = s.account_id AND c.interaction_id = s.interaction_id
             WHERE c.from_paid > 0)
        SELECT account_id, interaction_id, environment, currency, day, agent_id, model, {sums}
          FROM parts GROUP BY 1, 2, 3, 4, 5, 6, 7"""  # noqa: S608


def attributed() -> str:
    """Return SQL for the sums by day plus newer entries, for readers: columns of DAY_KEY and SUMS."""
    negative = ", ".join(f"-i.{name}" for name in SUMS)
    return f"""(
        WITH stale AS MATERIALIZED ({stale(":attributed_up_to", ":before")}),
        recent AS MATERIALIZED ({interactions()}),
        state AS MATERIALIZED (
            SELECT {_STATE} FROM recent
             UNION ALL
            SELECT {_STATE} FROM llm_interactions i JOIN stale USING (account_id, interaction_id)
             WHERE NOT EXISTS (SELECT FROM recent r
                                WHERE r.account_id = i.account_id AND r.interaction_id = i.interaction_id)),
        calls AS MATERIALIZED (
            SELECT account_id, interaction_id, model, {", ".join(f"sum({name}) AS {name}" for name in COUNTS)}
              FROM (SELECT account_id, interaction_id, model, {_COUNTS}
                      FROM interaction_calls JOIN stale USING (account_id, interaction_id)
                     UNION ALL
                    {own_calls("usage_log_id >= :attributed_up_to AND usage_log_id < :before")}) both_of_them
             GROUP BY 1, 2, 3)
        SELECT {DAY_KEY}, {_SUMS} FROM attribution_days
         UNION ALL
        SELECT {DAY_KEY}, {_SUMS} FROM ({shares()}) fresh
         UNION ALL
        SELECT {", ".join(f"i.{name}" for name in DAY_KEY.split(", "))}, {negative}
          FROM stale JOIN interaction_shares i USING (account_id, interaction_id))"""  # noqa: S608


_ADD_CALLS = text(
    f"""
    INSERT INTO interaction_calls AS c (account_id, interaction_id, model, {_COUNTS})
    {own_calls("usage_log_id >= :after AND usage_log_id < :before")}
        ON CONFLICT (account_id, interaction_id, model) DO UPDATE
       SET {", ".join(f"{name} = c.{name} + excluded.{name}" for name in COUNTS)}
    """  # noqa: S608
)
_SAME = " AND ".join(f"{{0}}.{name} = {{1}}.{name}" for name in KEY.split(", "))
_COLUMNS = f"account_id, interaction_id, environment, currency, day, agent_id, model, {_SUMS}"
_REPLACE_SHARES = text(
    f"""
    WITH stale AS MATERIALIZED ({stale(":after", ":before")}),
    state AS MATERIALIZED (
        SELECT {_STATE} FROM llm_interactions JOIN stale USING (account_id, interaction_id)),
    calls AS MATERIALIZED (
        SELECT account_id, interaction_id, model, {_COUNTS}
          FROM interaction_calls JOIN stale USING (account_id, interaction_id)),
    fresh AS MATERIALIZED ({shares()}),
    old AS MATERIALIZED (SELECT {_COLUMNS} FROM interaction_shares JOIN stale USING (account_id, interaction_id)),
    gone AS (
        DELETE FROM interaction_shares i USING old o
         WHERE {_SAME.format("i", "o")} AND NOT EXISTS (SELECT FROM fresh f WHERE {_SAME.format("f", "o")})),
    stored AS (
        INSERT INTO interaction_shares ({_COLUMNS}) SELECT {_COLUMNS} FROM fresh
            ON CONFLICT ({KEY}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in SUMS)})
    INSERT INTO attribution_days AS d ({DAY_KEY}, {_SUMS})
    SELECT {DAY_KEY}, {", ".join(f"sum({name})" for name in SUMS)}
      FROM (SELECT {DAY_KEY}, {_SUMS} FROM fresh
             UNION ALL
            SELECT {DAY_KEY}, {", ".join(f"-{name}" for name in SUMS)} FROM old) changes
     GROUP BY {DAY_KEY} HAVING ({", ".join(f"sum({name})" for name in SUMS)}) <> ({", ".join("0" for _ in SUMS)})
        ON CONFLICT ({DAY_KEY}) DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in SUMS)}
    """  # noqa: S608
)


async def attribute(tx: Session, window: dict[str, object]) -> None:
    """Update the shares of interactions with reports or charges in the window. The caller has locked the state."""
    await tx.execute(_ADD_CALLS, window)
    await tx.execute(_REPLACE_SHARES, window)
