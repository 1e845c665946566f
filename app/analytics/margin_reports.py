"""Margin reports: paid credits spent and LLM cost, by day, model, agent and tool. Sums by day plus newer entries.

Each function takes a session of `Database.consistent_read`. Currencies are those of the accounts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.analytics.attribution import attributed
from app.analytics.days import Days
from app.analytics.sources import COUNTS, interactions, uses
from app.analytics.usage_reports import MAX_ROWS, rows_of
from app.db import Session

Row = Mapping[str, Any]
_OF_THE_DAYS = "environment = :environment AND day BETWEEN :first AND :last"
# The cost of newer reports replaces the cost of the same interaction in the sums.
_COST = f"""(
    WITH recent AS MATERIALIZED ({interactions()})
    SELECT environment, day, currency, interactions, cost_cents FROM llm_days
     UNION ALL
    SELECT environment, day, currency, 1, cost_cents FROM recent
     UNION ALL
    SELECT i.environment, i.day, i.currency, -1, -i.cost_cents
      FROM recent r JOIN llm_interactions i ON i.account_id = r.account_id AND i.interaction_id = r.interaction_id)
"""  # noqa: S608  (our own words, here and below)
_SPENT_AND_COST = f"""(
    SELECT environment, day, currency, paid, CASE WHEN product_type <> '' THEN paid ELSE 0 END AS tool_paid,
           0 AS interactions, 0 AS cost_cents FROM usage_days
     UNION ALL
    SELECT environment, day, currency, paid, CASE WHEN product_type <> '' THEN paid ELSE 0 END, 0, 0
      FROM ({uses()}) u
     UNION ALL
    SELECT environment, day, currency, 0, 0, interactions, cost_cents FROM {_COST} l)
"""  # noqa: S608
_MARGIN = """
    sum(paid) AS paid_spent, sum(tool_paid) AS tool_paid_spent, sum(interactions) AS interactions,
    sum(cost_cents) AS cost_cents"""
_CHARGED = f"""(
    SELECT environment, day, currency, product_type, agent_id, uses, paid, product_free, product_paid FROM usage_days
     UNION ALL
    SELECT environment, day, currency, product_type, agent_id, 1, paid, product_free, product_paid
      FROM ({uses()}) u)"""  # noqa: S608
_ATTRIBUTED = attributed()
_SHARES = ", ".join(f"sum({name}) AS {name}" for name in ("interactions", *COUNTS))


async def list_margins(db: Session, days: Days) -> Sequence[Row]:
    """Return paid credits spent, in all and on tools, and LLM cost, by currency."""
    statement = f"""
        SELECT currency, {_MARGIN} FROM {_SPENT_AND_COST} parts WHERE {_OF_THE_DAYS} GROUP BY currency ORDER BY currency
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_margin_days(db: Session, days: Days) -> Sequence[Row]:
    statement = f"""
        SELECT day, currency, {_MARGIN} FROM {_SPENT_AND_COST} parts
         WHERE {_OF_THE_DAYS} GROUP BY day, currency ORDER BY day, currency
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_models(db: Session, days: Days) -> Sequence[Row]:
    """Return the usage of models, most expensive first."""
    statement = f"""
        SELECT model, {_SHARES} FROM {_ATTRIBUTED} a WHERE {_OF_THE_DAYS}
         GROUP BY model HAVING sum(interactions) <> 0 ORDER BY sum(cost_cents) DESC, model LIMIT {MAX_ROWS}
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_models_by_currency(db: Session, days: Days) -> Sequence[Row]:
    """Return the usage of models by currency, most expensive first, with the paid credits spent."""
    statement = f"""
        SELECT model, currency, {_SHARES}, sum(paid) AS paid_spent FROM {_ATTRIBUTED} a WHERE {_OF_THE_DAYS}
         GROUP BY model, currency HAVING sum(interactions) <> 0 OR sum(paid) <> 0
         ORDER BY sum(cost_cents) DESC, model, currency LIMIT {MAX_ROWS}
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_unattributed(db: Session, days: Days) -> Sequence[Row]:
    """Return the paid credits of charges without any report of LLM usage, by currency."""
    statement = f"""
        SELECT currency, sum(paid) AS paid_spent
          FROM (SELECT currency, paid FROM {_CHARGED} c WHERE {_OF_THE_DAYS} AND product_type = ''
                 UNION ALL
                SELECT currency, -paid FROM {_ATTRIBUTED} a WHERE {_OF_THE_DAYS}) parts
         GROUP BY currency HAVING sum(paid) <> 0 ORDER BY currency
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_agents(db: Session, days: Days) -> Sequence[Row]:
    """Return interactions' charges by agent, and the LLM cost of the interactions that they paid for."""
    statement = f"""
        SELECT agent_id, currency, sum(uses) AS uses, sum(paid) AS paid_spent, sum(cost_cents) AS cost_cents
          FROM (SELECT agent_id, currency, uses, paid, 0 AS cost_cents FROM {_CHARGED} c
                 WHERE {_OF_THE_DAYS} AND product_type = ''
                 UNION ALL
                SELECT agent_id, currency, 0, 0, cost_cents FROM {_ATTRIBUTED} a WHERE {_OF_THE_DAYS}) parts
         GROUP BY agent_id, currency ORDER BY sum(paid) DESC, sum(cost_cents) DESC, agent_id, currency LIMIT {MAX_ROWS}
    """  # noqa: S608
    return await rows_of(db, statement, days)


async def list_tools(db: Session, days: Days) -> Sequence[Row]:
    """Return tools' uses, and the main pools' paid credits spent on them."""
    statement = f"""
        SELECT product_type, currency, sum(uses) AS uses, sum(product_free) AS product_free,
               sum(product_paid) AS product_paid, sum(paid) AS paid_spent
          FROM {_CHARGED} c WHERE {_OF_THE_DAYS} AND product_type <> ''
         GROUP BY product_type, currency
         ORDER BY sum(paid) DESC, sum(uses) DESC, product_type, currency LIMIT {MAX_ROWS}
    """  # noqa: S608
    return await rows_of(db, statement, days)
