"""Roll-up checks: verify that the sums by day match the books. Each query returns the first difference as `culprit`.

They run beside the ledger's checks (app.ledger.verification), in the same snapshot.
"""

from app.analytics.attribution import DAY_KEY, KEY, SUMS, own_calls, shares, stale
from app.analytics.sources import (
    COUNTS,
    METERED_KEY,
    METERED_SUMS,
    PARTS,
    USES_KEY,
    granted_uses,
    interactions,
    metered,
    uses,
)
from app.ledger.checks import Proof
from app.ledger.entries import WALLET_ENTRIES

_FIRST = "CAST('00000000-0000-0000-0000-000000000000' AS uuid)"
_LAST = "CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS uuid)"
_ALL = (_FIRST, "(SELECT rolled_up_to FROM rollup_state)")
_METERED_UP_TO = "(SELECT metered_up_to FROM rollup_state)"
_LLM_KEY = "environment, day, currency, model"
_COUNTS = ", ".join(COUNTS)
_WEEK = "CAST(date_trunc('week', CAST(day AS timestamp)) AS date)"


def _differ(what: str, key: str, sums: str, expected: str, stored: str) -> str:
    """Return SQL for the first key whose sums differ in two relations; a missing row counts as zeros."""
    names = sums.split(", ")
    zero = ", ".join(f"coalesce({{0}}.{name}, 0)" for name in names)
    first, second = zero.format("e"), zero.format("s")
    keys = ", ".join(f"CAST({name} AS text)" for name in key.split(", "))
    return f"""
        SELECT format('{what} %s: books %s, sums %s', concat_ws('/', {keys}),
                      concat_ws('/', {first}), concat_ws('/', {second})) AS culprit
          FROM ({expected}) e FULL JOIN ({stored}) s USING ({key})
         WHERE ({first}) IS DISTINCT FROM ({second})
         ORDER BY {key} LIMIT 1
    """


_ATTRIBUTED_UP_TO = "(SELECT attributed_up_to FROM rollup_state)"
# Only interactions without newer entries, and not erased persons': the books no longer say which charge paid for those.
_SETTLED_SHARES = """
    SELECT {columns} FROM {table} i JOIN accounts a USING (account_id)
     WHERE a.erased_at IS NULL AND NOT EXISTS (
           SELECT FROM stale s WHERE s.account_id = i.account_id AND s.interaction_id = i.interaction_id)"""
_STALE = f"WITH stale AS MATERIALIZED ({stale(_ATTRIBUTED_UP_TO, _LAST)})"


_STATE = f"account_id, interaction_id, environment, currency, day, models, {_COUNTS}"
_SUMS = ", ".join(SUMS)
_SHARES = f"{KEY}, environment, currency, {_SUMS}"
_TOTALS = ", ".join(f"sum({name}) AS {name}" for name in SUMS)


def _settled(columns: str, table: str) -> str:
    names = ", ".join(f"i.{name}" for name in columns.split(", "))
    return _SETTLED_SHARES.format(columns=names, table=table)


# Each side of an account's books, for all days together: what its pools hold, and what the reports count by day.
_HELD_AND_COUNTED = f"""
    SELECT environment, currency AS unit,
           money_nanos + grants_money_nanos + held_money_nanos - money_debt_nanos AS held, 0 AS counted
      FROM accounts
     UNION ALL
    SELECT environment, 'credit', grants_credits, 0 FROM accounts
     UNION ALL
    SELECT a.environment, 'credit', p.amount, 0
      FROM holds h JOIN hold_parts p USING (account_id, hold_id) JOIN accounts a USING (account_id)
     WHERE h.status = 'held' AND h.unit = 'credit' AND p.pool = 'grant'
     UNION ALL
    SELECT a.environment, m.currency, 0, m.amount_nanos FROM money_credits m JOIN accounts a USING (account_id)
     UNION ALL
    SELECT a.environment, e.unit, 0, CASE e.pool WHEN 'money_debt' THEN -e.delta ELSE e.delta END
      FROM (SELECT account_id, unit, pool, delta FROM ledger_entries
             WHERE {WALLET_ENTRIES} AND NOT (pool = 'money_debt' AND cause_type = 'money_credit')) e
      JOIN accounts a USING (account_id)
     UNION ALL
    SELECT environment, currency, 0, -cost_nanos FROM metered_days
     UNION ALL
    SELECT environment, currency, 0, -cost_nanos FROM ({metered(_METERED_UP_TO, _LAST)}) recent
     UNION ALL
    SELECT environment, 'credit', 0, -grants FROM usage_days
     UNION ALL
    SELECT environment, 'credit', 0, -grants FROM ({granted_uses(_METERED_UP_TO, _LAST)}) recent
    """

ROLLUP_CHECKS = {
    "a day's uses that are not the books'": _differ(
        "usage",
        USES_KEY,
        "uses, daily_free, free, paid, product_free, product_paid",
        f"""SELECT {USES_KEY}, count(*) AS uses, sum(daily_free) AS daily_free, sum(free) AS free, sum(paid) AS paid,
                   sum(product_free) AS product_free, sum(product_paid) AS product_paid
              FROM ({uses(*_ALL)}) u GROUP BY {USES_KEY}""",
        "SELECT * FROM usage_days",
    ),
    "a day's credits of grants that are not the books'": _differ(
        "grants",
        USES_KEY,
        "grants",
        f"""SELECT {USES_KEY}, sum(grants) AS grants
              FROM ({granted_uses(_FIRST, _METERED_UP_TO)}) g GROUP BY {USES_KEY}""",
        "SELECT * FROM usage_days",
    ),
    "a day's usage events that are not the books'": _differ(
        "metered",
        METERED_KEY,
        ", ".join(METERED_SUMS),
        f"""SELECT {METERED_KEY}, {", ".join(f"sum({name}) AS {name}" for name in METERED_SUMS)}
              FROM ({metered(_FIRST, _METERED_UP_TO)}) m GROUP BY {METERED_KEY}""",
        "SELECT * FROM metered_days",
    ),
    "an account's day of usage events that is not the books'": _differ(
        "events",
        "account_id, day, environment, cohort_week",
        "events, cost_nanos",
        f"""SELECT account_id, day, environment, cohort_week, sum(events) AS events, sum(cost_nanos) AS cost_nanos
              FROM ({metered(_FIRST, _METERED_UP_TO)}) m GROUP BY 1, 2, 3, 4""",
        "SELECT * FROM account_days",
    ),
    "an account's day that is not the books'": _differ(
        "account",
        "account_id, day, environment, cohort_week",
        "uses, credits",
        f"""SELECT account_id, day, environment, cohort_week, count(*) AS uses, sum(credits) AS credits
              FROM ({uses(*_ALL)}) u GROUP BY 1, 2, 3, 4""",
        "SELECT * FROM account_days",
    ),
    "an account's day that points to a wrong one": """
        SELECT format('account %s, day %s: points to %s, not %s', account_id, day, previous_day, expected) AS culprit
          FROM (SELECT account_id, day, previous_day,
                       coalesce(lag(day) OVER (PARTITION BY account_id ORDER BY day), '-infinity') AS expected
                  FROM account_days) d
         WHERE previous_day <> expected ORDER BY account_id, day LIMIT 1
        """,
    "a count of active accounts that is not the accounts'": _differ(
        "active",
        "environment, day, previous_day",
        "accounts",
        "SELECT environment, day, previous_day, count(*) AS accounts FROM account_days GROUP BY 1, 2, 3",
        "SELECT * FROM active_days",
    ),
    "a cohort's week that is not its accounts'": _differ(
        "cohort",
        "environment, cohort_week, week",
        "active, credits",
        f"""SELECT environment, cohort_week, {_WEEK} AS week, count(DISTINCT account_id) AS active,
                   sum(credits) AS credits
              FROM account_days GROUP BY 1, 2, 3""",
        "SELECT * FROM cohort_weeks",
    ),
    "an interaction that is not its reports'": _differ(
        "interaction",
        f"account_id, interaction_id, {_LLM_KEY}",
        ", ".join((*COUNTS, *PARTS)),
        interactions(*_ALL, from_the_beginning=True),
        "SELECT * FROM llm_interactions",
    ),
    "a day's LLM calls that are not its interactions'": _differ(
        "llm",
        _LLM_KEY,
        f"interactions, {_COUNTS}",
        f"""SELECT {_LLM_KEY}, count(*) AS interactions, sum(llm_calls) AS llm_calls,
                   sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
                   sum(cost_cents) AS cost_cents
              FROM llm_interactions GROUP BY {_LLM_KEY}""",
        "SELECT * FROM llm_days",
    ),
    "a model's calls that are not its reports'": _differ(
        "calls",
        "account_id, interaction_id, model",
        _COUNTS,
        own_calls(f"usage_log_id < {_ATTRIBUTED_UP_TO}"),
        "SELECT * FROM interaction_calls",
    ),
    "an interaction's shares that are not its charges' and calls'": _differ(
        "shares",
        f"{KEY}, environment, currency",
        _SUMS,
        f"""{_STALE},
            state AS MATERIALIZED ({
            _settled(f"account_id, interaction_id, environment, currency, day, models, {_COUNTS}", "llm_interactions")
        }),
            calls AS MATERIALIZED ({own_calls(f"usage_log_id < {_ATTRIBUTED_UP_TO}")})
            SELECT * FROM ({shares()}) expected""",
        f"{_STALE} {_settled(_SHARES, 'interaction_shares')}",
    ),
    "a day's attribution that is not its shares'": _differ(
        "attribution",
        DAY_KEY,
        _SUMS,
        f"SELECT {DAY_KEY}, {_TOTALS} FROM interaction_shares GROUP BY {DAY_KEY}",
        "SELECT * FROM attribution_days",
    ),
}

TOTALS = {
    "days of money and grants that do not add up to the balances": f"""
        SELECT format('%s, %s: balances %s, days %s', environment, unit, sum(held), sum(counted)) AS culprit
          FROM ({_HELD_AND_COUNTED}) parts
         GROUP BY environment, unit HAVING sum(held) <> sum(counted)
         ORDER BY environment, unit LIMIT 1
        """,
}

PROOF = Proof(checks=ROLLUP_CHECKS, totals=TOTALS)
