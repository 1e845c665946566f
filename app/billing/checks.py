"""Billing's part of the proof of the books: charges and credits are what their ledger entries say."""

from app.db.sql import sql
from app.ledger.checks import SPENT, Proof

PROOF = Proof(
    checks={
        "a charge that is not what its entries say": sql(
            """
            SELECT format('account %s, charge %s: recorded %s/%s/%s/%s, entries %s/%s/%s/%s', c.account_id, c.charge_id,
                          c.from_daily_free, c.from_free, c.from_paid, c.from_grants,
                          coalesce(e.daily_free, 0), coalesce(e.free, 0), coalesce(e.paid, 0), coalesce(e.grants, 0))
                   AS culprit
              FROM charges c
              LEFT JOIN (SELECT account_id, cause_id,
                                -sum(delta) FILTER (WHERE pool = 'daily_free') AS daily_free,
                                -sum(delta) FILTER (WHERE pool = 'free') AS free,
                                -sum(delta) FILTER (WHERE pool = 'paid') AS paid,
                                -sum(delta) FILTER (WHERE pool = 'grant') AS grants,
                                -sum(delta) FILTER (WHERE pool = 'held') AS held
                           FROM ledger_entries WHERE cause_type = 'charge' AND {spent} GROUP BY 1, 2) e
                ON e.account_id = c.account_id AND e.cause_id = c.charge_id
             WHERE CASE WHEN e.held IS NULL  -- else a hold took it from the pools earlier
                        THEN (c.from_daily_free, c.from_free, c.from_paid, c.from_grants)
                             <> (coalesce(e.daily_free, 0), coalesce(e.free, 0), coalesce(e.paid, 0),
                                 coalesce(e.grants, 0))
                        ELSE c.cost <> e.held + coalesce(e.daily_free, 0) + coalesce(e.free, 0) + coalesce(e.paid, 0)
                                       + coalesce(e.grants, 0)
                   END
             ORDER BY c.account_id, c.entry_no LIMIT 1
            """,
            spent=SPENT,
        ),
        "a credit that is not what its entries say": """
            SELECT format('account %s, credit %s: recorded %s, entries %s', c.account_id, c.credit_id, c.credits,
                          coalesce(e.total, 0)) AS culprit
              FROM credits c
              LEFT JOIN (SELECT account_id, cause_id,
                                sum(CASE WHEN kind = 'debt_incurred' THEN -delta
                                         WHEN kind = 'debt_repayment' THEN 0 ELSE delta END) AS total
                           FROM ledger_entries WHERE cause_type = 'credit' GROUP BY 1, 2) e
                ON e.account_id = c.account_id AND e.cause_id = c.credit_id
             WHERE c.credits <> coalesce(e.total, 0)
             ORDER BY c.account_id, c.entry_no LIMIT 1
            """,
    },
    causes={
        "charge": """
            EXISTS (SELECT FROM charges c WHERE c.account_id = e.account_id AND c.charge_id = e.cause_id)
            """,
        "credit": """
            EXISTS (SELECT FROM credits c WHERE c.account_id = e.account_id AND c.credit_id = e.cause_id)
            """,
    },
)
