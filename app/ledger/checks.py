"""The ledger's part of the proof of the books, and the form in which other packages add theirs.

Each check is a query for rows that must not exist. It returns one row with `culprit`, a text that names the first of
them, or no row. Names of tables above the ledger are in the packages that own them.

No check looks for a negative balance. The verification first makes sure that the CHECK against it is in force, and the
planner relies on that CHECK, so such a query would find nothing. A balance that got past it is not the sum of its
entries.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.db.sql import sql
from app.ledger.entries import TOTALS, USAGE_CAUSES

SPENT = (
    "kind IN ('charge', 'tool_charge') AND unit = 'credit' AND pool IN ('daily_free', 'free', 'paid', 'grant', 'held')"
)
"""SQL condition: the ledger entry spends credits, and not a product's uses. From `held` by the capture of a hold."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A package's part of the proof of the books: SQL over its own tables and the ledger's."""

    checks: Mapping[str, str] = field(default_factory=dict)
    """By the name of the fault that a query looks for."""
    totals: Mapping[str, str] = field(default_factory=dict)
    """Checks of sums over many accounts. They run last: the others name the account at fault."""
    balances: Sequence[str] = ()
    """Queries of the stored balances (account_id, pool, unit, grant_id, balance) that entries must add up to."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """By `cause_type`: the condition under which a ledger entry `e` has its cause."""


_PLAIN = "unit = 'credit' AND grant_id IS NULL"
"""Nearly all entries: sorting them by two columns takes half as long as by four."""


def _chain(pool: str, condition: str) -> str:
    """Return a query of the entries that meet the condition, each with the `before` that its predecessor left."""
    return sql(
        """
        SELECT account_id, entry_no, pool, delta, balance_after,
               coalesce(lag(balance_after) OVER (PARTITION BY {pool} ORDER BY entry_no), 0) AS before
          FROM ledger_entries WHERE {condition}""",
        pool=pool,
        condition=condition,
    )


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


_PURCHASED = _quoted(kind for kind, total in TOTALS.items() if total == "money_purchased_nanos")
_GRANTED = _quoted(kind for kind, total in TOTALS.items() if total == "money_granted_nanos")
_USED = _quoted(kind for kind, total in TOTALS.items() if total == "money_used_nanos")
_USAGE = _quoted(USAGE_CAUSES)

LEDGER = Proof(
    checks={
        "a gap in an account's entries": """
            SELECT format('account %s: %s entries, last number %s, account says %s',
                          a.account_id, coalesce(e.n, 0), coalesce(e.last, 0), a.last_entry_no) AS culprit
              FROM accounts a
              LEFT JOIN (SELECT account_id, count(*) AS n, max(entry_no) AS last FROM ledger_entries GROUP BY 1) e
                USING (account_id)
             WHERE coalesce(e.n, 0) <> a.last_entry_no OR coalesce(e.last, 0) <> a.last_entry_no
             ORDER BY a.account_id LIMIT 1
            """,
        "a broken chain": sql(
            """
            SELECT format('account %s, entry %s, pool %s: balance after is %s, expected %s',
                          account_id, entry_no, pool, balance_after, before + delta) AS culprit
              FROM ({plain} UNION ALL {others}) chain
             WHERE balance_after <> before + delta OR balance_after < 0
             ORDER BY account_id, entry_no LIMIT 1
            """,
            plain=_chain("account_id, pool", _PLAIN),
            others=_chain("account_id, pool, unit, grant_id", f"NOT ({_PLAIN})"),
        ),
        "a count of uses that is not the credits spent": sql(
            """
            SELECT format('account %s: total_uses %s, credits spent %s',
                          a.account_id, a.total_uses, coalesce(s.spent, 0)) AS culprit
              FROM accounts a
              LEFT JOIN (SELECT account_id, -sum(delta) AS spent FROM ledger_entries WHERE {spent} GROUP BY 1) s
                USING (account_id)
             WHERE a.total_uses <> coalesce(s.spent, 0)
             ORDER BY a.account_id LIMIT 1
            """,
            spent=SPENT,
        ),
        "a hold that is not its parts": """
            SELECT format('account %s, hold %s: amount %s, parts %s', h.account_id, h.hold_id, h.amount,
                          coalesce(p.total, 0)) AS culprit
              FROM holds h
              LEFT JOIN (SELECT account_id, hold_id, sum(amount) AS total FROM hold_parts GROUP BY 1, 2) p
                USING (account_id, hold_id)
             WHERE h.amount <> coalesce(p.total, 0)
             ORDER BY h.account_id, h.hold_id LIMIT 1
            """,
    },
    balances=(
        "SELECT account_id, 'daily_free' AS pool, 'credit' AS unit, CAST(NULL AS uuid) AS grant_id,"
        " daily_free AS balance FROM accounts",
        "SELECT account_id, 'free', 'credit', NULL, free FROM accounts",
        "SELECT account_id, 'paid', 'credit', NULL, paid FROM accounts",
        "SELECT account_id, 'debt', 'credit', NULL, debt FROM accounts",
        "SELECT account_id, 'money', currency, NULL, money_nanos FROM accounts WHERE money_nanos <> 0",
        "SELECT account_id, 'money_debt', currency, NULL, money_debt_nanos FROM accounts WHERE money_debt_nanos <> 0",
        "SELECT account_id, 'grant', unit, grant_id, remaining FROM grants",
        "SELECT account_id, 'held', unit, NULL, amount FROM holds WHERE status = 'held'",
    ),
    causes={
        "account": "e.cause_id = e.account_id",
        "grant": "EXISTS (SELECT FROM grants g WHERE g.account_id = e.account_id AND g.grant_id = e.cause_id)",
        "hold": "EXISTS (SELECT FROM holds h WHERE h.account_id = e.account_id AND h.hold_id = e.cause_id)",
    },
)
"""The proof of the ledger's own tables, except for the checks that `compose` adds."""

_ACCOUNT_SUMS = {
    "a sum of grants that is not its grants": """
        SELECT format('account %s: grants %s credits, %s nanos, due %s; grants say %s, %s, %s', account_id,
                      a.grants_credits, a.grants_money_nanos, a.grants_expire_at, g.credits, g.nanos, g.due)
               AS culprit
          FROM (SELECT account_id, grants_credits, grants_money_nanos, grants_expire_at FROM accounts) a
          LEFT JOIN (SELECT account_id, sum(remaining) FILTER (WHERE unit = 'credit') AS credits,
                            sum(remaining) FILTER (WHERE unit <> 'credit') AS nanos, min(expires_at) AS due
                       FROM grants WHERE closed_at IS NULL GROUP BY 1) g USING (account_id)
         WHERE (a.grants_credits, a.grants_money_nanos, a.grants_expire_at)
               IS DISTINCT FROM (coalesce(g.credits, 0), coalesce(g.nanos, 0), g.due)
         ORDER BY account_id LIMIT 1
        """,
    "a sum of holds that is not its holds": """
        SELECT format('account %s: held %s credits, %s nanos; holds say %s, %s', account_id, a.held_credits,
                      a.held_money_nanos, coalesce(h.credits, 0), coalesce(h.nanos, 0)) AS culprit
          FROM (SELECT account_id, held_credits, held_money_nanos FROM accounts) a
          LEFT JOIN (SELECT account_id, sum(amount) FILTER (WHERE unit = 'credit') AS credits,
                            sum(amount) FILTER (WHERE unit <> 'credit') AS nanos
                       FROM holds WHERE status = 'held' GROUP BY 1) h USING (account_id)
         WHERE (a.held_credits, a.held_money_nanos) <> (coalesce(h.credits, 0), coalesce(h.nanos, 0))
         ORDER BY account_id LIMIT 1
        """,
    "a lifetime total of money that is not its entries": sql(
        """
        SELECT format('account %s: purchased %s, granted %s, used %s; entries %s, %s, %s', account_id,
                      a.money_purchased_nanos, a.money_granted_nanos, a.money_used_nanos,
                      coalesce(e.purchased, 0), coalesce(e.granted, 0), coalesce(e.used, 0)) AS culprit
          FROM (SELECT account_id, money_purchased_nanos, money_granted_nanos, money_used_nanos FROM accounts) a
          LEFT JOIN (SELECT account_id,
                            sum(gained) FILTER (WHERE kind IN ({purchased}) OR incurred AND NOT used) AS purchased,
                            sum(gained) FILTER (WHERE kind IN ({granted}) AND gained > 0) AS granted,
                            -sum(gained) FILTER (WHERE kind IN ({used}) OR incurred AND used) AS used
                       FROM (SELECT account_id, kind, CASE pool WHEN 'money_debt' THEN -delta ELSE delta END
                                    AS gained, kind = 'debt_incurred' AS incurred, cause_type IN ({usage}) AS used
                               FROM ledger_entries WHERE unit <> 'credit') m
                      GROUP BY 1) e USING (account_id)
         WHERE (a.money_purchased_nanos, a.money_granted_nanos, a.money_used_nanos)
               <> (coalesce(e.purchased, 0), coalesce(e.granted, 0), coalesce(e.used, 0))
         ORDER BY account_id LIMIT 1
        """,
        purchased=_PURCHASED,
        granted=_GRANTED,
        usage=_USAGE,
        used=_USED,
    ),
}
"""Checks of the account's columns that repeat what other rows say."""

_PRIVILEGE = """
    SELECT format('role %s may change ledger_entries', current_user) AS culprit
      FROM pg_class
     WHERE oid = 'ledger_entries'::regclass AND NOT pg_has_role(relowner, 'USAGE')
       AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')
    """


def compose(proofs: Sequence[Proof]) -> dict[str, str]:
    """Return the checks of the ledger and of all `proofs`, by name, in the order in which they run.

    Raises ValueError when two packages use one name for a check or a cause.
    """
    parts = (LEDGER, *proofs)
    balances = [query for part in parts for query in part.balances]
    causes = [cause for part in parts for cause in part.causes.items()]
    checks = [
        *LEDGER.checks.items(),
        ("a balance that is not the sum of its entries", _sums(balances)),
        *_ACCOUNT_SUMS.items(),
        *(check for proof in proofs for check in proof.checks.items()),
        ("an entry without its cause", _causes(causes)),
        *(check for proof in proofs for check in proof.totals.items()),
        ("a privilege to change the ledger", _PRIVILEGE),
    ]
    for named in (causes, checks):
        names = [name for name, _ in named]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"registered twice: {', '.join(sorted(repeated))}")
    return dict(checks)


def _sums(balances: Sequence[str]) -> str:
    return sql(
        """
        SELECT format('account %s, pool %s: balance %s, sum of entries %s', account_id,
                      concat_ws(' ', pool, nullif(unit, 'credit'), grant_id), balance, total) AS culprit
          FROM (SELECT account_id, pool, unit, grant_id, sum(balance) AS balance, sum(total) AS total
                  FROM (SELECT account_id, pool, unit, grant_id, balance, 0 AS total
                          FROM ({balances}) b
                         UNION ALL
                        SELECT account_id, pool, unit, grant_id, 0, sum(delta) FROM ledger_entries GROUP BY 1, 2, 3, 4)
                       both_sides
                 GROUP BY 1, 2, 3, 4) s
         WHERE balance <> total
         ORDER BY account_id, pool, unit, grant_id LIMIT 1
        """,
        balances=" UNION ALL ".join(balances),
    )


def _causes(causes: Sequence[tuple[str, str]]) -> str:
    cases = " ".join(f"WHEN '{cause_type}' THEN {condition}" for cause_type, condition in causes)
    return sql(
        """
        SELECT format('account %s, entry %s: no %s %s', e.account_id, e.entry_no, e.cause_type, e.cause_id) AS culprit
          FROM ledger_entries e
         WHERE NOT CASE e.cause_type {cases} ELSE false END
         ORDER BY e.account_id, e.entry_no LIMIT 1
        """,
        cases=cases,
    )
