"""Margin reports: paid credits spent and LLM cost, by day, model, agent and tool. Sums by day plus newer entries.

Each function takes a session of `Database.consistent_read`. Currencies are those of the accounts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.analytics.attribution import attributed
from app.analytics.days import OF_THE_DAYS, Days
from app.analytics.sources import COUNTS, interactions, uses
from app.analytics.usage_reports import MAX_ROWS, rows_of
from app.db import Session
from app.db.sql import sql

Row = Mapping[str, Any]
# The cost of newer reports replaces the cost of the same interaction in the sums.
_COST = sql(
    """(
    WITH recent AS MATERIALIZED ({interactions})
    SELECT environment, day, currency, interactions, cost_cents FROM llm_days
     UNION ALL
    SELECT environment, day, currency, 1, cost_cents FROM recent
     UNION ALL
    SELECT i.environment, i.day, i.currency, -1, -i.cost_cents
      FROM recent r JOIN llm_interactions i ON i.account_id = r.account_id AND i.interaction_id = r.interaction_id)
""",
    interactions=interactions(),
)
_SPENT_AND_COST = sql(
    """(
    SELECT environment, day, currency, paid, CASE WHEN product_type <> '' THEN paid ELSE 0 END AS tool_paid,
           0 AS interactions, 0 AS cost_cents FROM usage_days
     UNION ALL
    SELECT environment, day, currency, paid, CASE WHEN product_type <> '' THEN paid ELSE 0 END, 0, 0
      FROM ({uses}) u
     UNION ALL
    SELECT environment, day, currency, 0, 0, interactions, cost_cents FROM {cost} l)
""",
    uses=uses(),
    cost=_COST,
)
_MARGIN = """
    sum(paid) AS paid_spent, sum(tool_paid) AS tool_paid_spent, sum(interactions) AS interactions,
    sum(cost_cents) AS cost_cents"""
_CHARGED = sql(
    """(
    SELECT environment, day, currency, product_type, agent_id, uses, paid, product_free, product_paid FROM usage_days
     UNION ALL
    SELECT environment, day, currency, product_type, agent_id, 1, paid, product_free, product_paid
      FROM ({uses}) u)""",
    uses=uses(),
)
_ATTRIBUTED = attributed()
_SHARES = ", ".join(f"sum({name}) AS {name}" for name in ("interactions", *COUNTS))


async def list_margins(db: Session, days: Days) -> Sequence[Row]:
    """Return paid credits spent, in all and on tools, and LLM cost, by currency."""
    statement = sql(
        """
        SELECT currency, {margin} FROM {spent_and_cost} parts WHERE {of_the_days} GROUP BY currency ORDER BY currency
    """,
        margin=_MARGIN,
        spent_and_cost=_SPENT_AND_COST,
        of_the_days=OF_THE_DAYS,
    )
    return await rows_of(db, statement, days)


async def list_margin_days(db: Session, days: Days) -> Sequence[Row]:
    statement = sql(
        """
        SELECT day, currency, {margin} FROM {spent_and_cost} parts
         WHERE {of_the_days} GROUP BY day, currency ORDER BY day, currency
    """,
        margin=_MARGIN,
        spent_and_cost=_SPENT_AND_COST,
        of_the_days=OF_THE_DAYS,
    )
    return await rows_of(db, statement, days)


async def list_models(db: Session, days: Days) -> Sequence[Row]:
    """Return the usage of models, most expensive first."""
    statement = sql(
        """
        SELECT model, {shares} FROM {attributed} a WHERE {of_the_days}
         GROUP BY model HAVING sum(interactions) <> 0 ORDER BY sum(cost_cents) DESC, model LIMIT {max_rows}
    """,
        shares=_SHARES,
        attributed=_ATTRIBUTED,
        of_the_days=OF_THE_DAYS,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)


async def list_models_by_currency(db: Session, days: Days) -> Sequence[Row]:
    """Return the usage of models by currency, most expensive first, with the paid credits spent."""
    statement = sql(
        """
        SELECT model, currency, {shares}, sum(paid) AS paid_spent FROM {attributed} a WHERE {of_the_days}
         GROUP BY model, currency HAVING sum(interactions) <> 0 OR sum(paid) <> 0
         ORDER BY sum(cost_cents) DESC, model, currency LIMIT {max_rows}
    """,
        shares=_SHARES,
        attributed=_ATTRIBUTED,
        of_the_days=OF_THE_DAYS,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)


async def list_unattributed(db: Session, days: Days) -> Sequence[Row]:
    """Return the paid credits of charges without any report of LLM usage, by currency."""
    statement = sql(
        """
        SELECT currency, sum(paid) AS paid_spent
          FROM (SELECT currency, paid FROM {charged} c WHERE {of_the_days} AND product_type = ''
                 UNION ALL
                SELECT currency, -paid FROM {attributed} a WHERE {of_the_days}) parts
         GROUP BY currency HAVING sum(paid) <> 0 ORDER BY currency
    """,
        charged=_CHARGED,
        of_the_days=OF_THE_DAYS,
        attributed=_ATTRIBUTED,
    )
    return await rows_of(db, statement, days)


async def list_agents(db: Session, days: Days) -> Sequence[Row]:
    """Return interactions' charges by agent, and the LLM cost of the interactions that they paid for."""
    statement = sql(
        """
        SELECT agent_id, currency, sum(uses) AS uses, sum(paid) AS paid_spent, sum(cost_cents) AS cost_cents
          FROM (SELECT agent_id, currency, uses, paid, 0 AS cost_cents FROM {charged} c
                 WHERE {of_the_days} AND product_type = ''
                 UNION ALL
                SELECT agent_id, currency, 0, 0, cost_cents FROM {attributed} a WHERE {of_the_days}) parts
         GROUP BY agent_id, currency ORDER BY sum(paid) DESC, sum(cost_cents) DESC, agent_id, currency LIMIT {max_rows}
    """,
        charged=_CHARGED,
        of_the_days=OF_THE_DAYS,
        attributed=_ATTRIBUTED,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)


async def list_tools(db: Session, days: Days) -> Sequence[Row]:
    """Return tools' uses, and the main pools' paid credits spent on them."""
    statement = sql(
        """
        SELECT product_type, currency, sum(uses) AS uses, sum(product_free) AS product_free,
               sum(product_paid) AS product_paid, sum(paid) AS paid_spent
          FROM {charged} c WHERE {of_the_days} AND product_type <> ''
         GROUP BY product_type, currency
         ORDER BY sum(paid) DESC, sum(uses) DESC, product_type, currency LIMIT {max_rows}
    """,
        charged=_CHARGED,
        of_the_days=OF_THE_DAYS,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)
