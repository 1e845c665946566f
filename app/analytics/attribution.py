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

from app.analytics.sources import COUNTS, MAX_KEY_BYTES, interactions
from app.db import Session
from app.db.sql import sql

SUMS = ("interactions", *COUNTS, "paid")
"""The sums of a share: the interaction itself, its calls, tokens and cost, and the paid credits of its charges."""
KEY = "account_id, interaction_id, day, agent_id, model"
DAY_KEY = "environment, day, currency, agent_id, model"
SDK_PREFIX = "charge:"
MAX_AGENT_CHARS = 100
"""Of the name of an agent whose share would have a key of more than MAX_KEY_BYTES."""
_COUNTS = ", ".join(COUNTS)
_SUMS = ", ".join(SUMS)
_PLACES = {"cost_cents": 10}
"""Decimal places of a share; calls and tokens are whole numbers."""
_BOUNDED_AGENT = f"""
    CASE WHEN octet_length(concat(interaction_id, agent_id, model)) > {MAX_KEY_BYTES}
         THEN left(agent_id, {MAX_AGENT_CHARS}) ELSE agent_id END"""
_STATE = f"account_id, interaction_id, environment, currency, day, models, {_COUNTS}"


def keys_of(interaction_id: str) -> str:
    """Return SQL for the idempotency keys that name an interaction. No key names two interactions."""
    return f"""(SELECT '{SDK_PREFIX}' || {interaction_id} AS key UNION ALL
                SELECT {interaction_id} WHERE {interaction_id} NOT LIKE '{SDK_PREFIX}%')"""


def stale(after: str, before: str) -> str:
    """Return SQL for the interactions with a report or a charge whose id is in [after, before)."""
    return sql(
        """
        SELECT account_id, interaction_id FROM llm_usage WHERE usage_log_id >= {after} AND usage_log_id < {before}
         UNION
        SELECT c.account_id, k.interaction_id
          FROM charges c
         CROSS JOIN LATERAL (SELECT CASE WHEN c.idempotency_key LIKE '{sdk_prefix}%'
                                         THEN substr(c.idempotency_key, {id_position})
                                         ELSE c.idempotency_key END AS interaction_id) k
         CROSS JOIN LATERAL (SELECT FROM llm_usage u
                              WHERE u.account_id = c.account_id AND u.interaction_id = k.interaction_id LIMIT 1) known
         WHERE c.charge_id >= {after} AND c.charge_id < {before} AND c.operation = 'charge'
           AND c.idempotency_key IS NOT NULL AND c.caller_kind = 'key'
    """,
        after=after,
        before=before,
        sdk_prefix=SDK_PREFIX,
        id_position=len(SDK_PREFIX) + 1,
    )


def own_calls(condition: str) -> str:
    """Return SQL for the sums of single calls with one model, by interaction and model."""
    sums = ", ".join(
        f"sum({'actual_cost_cents' if name == 'cost_cents' else f'total_{name}'}) AS {name}" for name in COUNTS
    )
    return sql(
        """
        SELECT account_id, interaction_id, models_used[1] AS model, {sums} FROM llm_usage
         WHERE {condition} AND total_llm_calls <= 1 AND cardinality(models_used) = 1
         GROUP BY account_id, interaction_id, models_used[1]""",
        sums=sums,
        condition=condition,
    )


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
    return sql(
        """
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
             CROSS JOIN LATERAL {keys_of} k
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
                   0, {none}, {share_of_rest}
              FROM split s JOIN charged c ON c.account_id = s.account_id AND c.interaction_id = s.interaction_id
             WHERE c.from_paid > 0)
        SELECT account_id, interaction_id, environment, currency, day, {agent_id} AS agent_id, model, {sums}
          FROM parts GROUP BY 1, 2, 3, 4, 5, 6, 7""",
        agent_id=_BOUNDED_AGENT,
        own=own,
        known=known,
        keys_of=keys_of("s.interaction_id"),
        counted=counted,
        none=none,
        share_of_rest=_share_of_rest("cost_cents", "c.from_paid"),
        sums=sums,
    )


def attributed() -> str:
    """Return SQL for the sums by day plus newer entries, for readers: columns of DAY_KEY and SUMS."""
    negative = ", ".join(f"-i.{name}" for name in SUMS)
    return sql(
        """(
        WITH stale AS MATERIALIZED ({stale}),
        recent AS MATERIALIZED ({interactions}),
        state AS MATERIALIZED (
            SELECT {state} FROM recent
             UNION ALL
            SELECT {state} FROM llm_interactions i JOIN stale USING (account_id, interaction_id)
             WHERE NOT EXISTS (SELECT FROM recent r
                                WHERE r.account_id = i.account_id AND r.interaction_id = i.interaction_id)),
        calls AS MATERIALIZED (
            SELECT account_id, interaction_id, model, {summed_counts}
              FROM (SELECT account_id, interaction_id, model, {counts}
                      FROM interaction_calls JOIN stale USING (account_id, interaction_id)
                     UNION ALL
                    {own_calls}) both_of_them
             GROUP BY 1, 2, 3)
        SELECT {day_key}, {sums} FROM attribution_days
         UNION ALL
        SELECT {day_key}, {sums} FROM ({shares}) fresh
         UNION ALL
        SELECT {day_key_of_i}, {negative}
          FROM stale JOIN interaction_shares i USING (account_id, interaction_id))""",
        stale=stale(":attributed_up_to", ":before"),
        interactions=interactions(),
        state=_STATE,
        summed_counts=", ".join(f"sum({name}) AS {name}" for name in COUNTS),
        counts=_COUNTS,
        own_calls=own_calls("usage_log_id >= :attributed_up_to AND usage_log_id < :before"),
        day_key=DAY_KEY,
        sums=_SUMS,
        shares=shares(),
        day_key_of_i=", ".join(f"i.{name}" for name in DAY_KEY.split(", ")),
        negative=negative,
    )


_ADD_CALLS = text(
    sql(
        """
    INSERT INTO interaction_calls AS c (account_id, interaction_id, model, {counts})
    {own_calls}
        ON CONFLICT (account_id, interaction_id, model) DO UPDATE
       SET {added_counts}
    """,
        counts=_COUNTS,
        own_calls=own_calls("usage_log_id >= :after AND usage_log_id < :before"),
        added_counts=", ".join(f"{name} = c.{name} + excluded.{name}" for name in COUNTS),
    )
)
_SAME = " AND ".join(f"{{0}}.{name} = {{1}}.{name}" for name in KEY.split(", "))
_COLUMNS = f"account_id, interaction_id, environment, currency, day, agent_id, model, {_SUMS}"
_REPLACE_SHARES = text(
    sql(
        """
    WITH stale AS MATERIALIZED ({stale}),
    state AS MATERIALIZED (
        SELECT {state} FROM llm_interactions JOIN stale USING (account_id, interaction_id)),
    calls AS MATERIALIZED (
        SELECT account_id, interaction_id, model, {counts}
          FROM interaction_calls JOIN stale USING (account_id, interaction_id)),
    fresh AS MATERIALIZED ({shares}),
    old AS MATERIALIZED (SELECT {columns} FROM interaction_shares JOIN stale USING (account_id, interaction_id)),
    gone AS (
        DELETE FROM interaction_shares i USING old o
         WHERE {same_i_o} AND NOT EXISTS (SELECT FROM fresh f WHERE {same_f_o})),
    stored AS (
        INSERT INTO interaction_shares ({columns}) SELECT {columns} FROM fresh
            ON CONFLICT ({key}) DO UPDATE SET {replaced_sums})
    INSERT INTO attribution_days AS d ({day_key}, {sums})
    SELECT {day_key}, {summed}
      FROM (SELECT {day_key}, {sums} FROM fresh
             UNION ALL
            SELECT {day_key}, {negative_sums} FROM old) changes
     GROUP BY {day_key} HAVING ({summed}) <> ({zeros})
        ON CONFLICT ({day_key}) DO UPDATE SET {added_sums}
    """,
        stale=stale(":after", ":before"),
        state=_STATE,
        counts=_COUNTS,
        shares=shares(),
        columns=_COLUMNS,
        same_i_o=_SAME.format("i", "o"),
        same_f_o=_SAME.format("f", "o"),
        key=KEY,
        replaced_sums=", ".join(f"{name} = excluded.{name}" for name in SUMS),
        day_key=DAY_KEY,
        sums=_SUMS,
        summed=", ".join(f"sum({name})" for name in SUMS),
        negative_sums=", ".join(f"-{name}" for name in SUMS),
        zeros=", ".join("0" for _ in SUMS),
        added_sums=", ".join(f"{name} = d.{name} + excluded.{name}" for name in SUMS),
    )
)


async def attribute(tx: Session, window: dict[str, object]) -> None:
    """Update the shares of interactions with reports or charges in the window. The caller has locked the state."""
    await tx.execute(_ADD_CALLS, window)
    await tx.execute(_REPLACE_SHARES, window)
