"""Metering's part of the proof of the books: an event costs what its ledger entries say, and is recorded once.

The entries of events that stand for cost records have the record as their cause: `app.cost_records.checks`.
"""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a usage event that is not what its entries say": """
            SELECT format('account %s, usage %s: %s, cost %s of which %s owed; entries %s and %s', u.account_id,
                          u.usage_id, u.status, u.cost_nanos, u.debt_nanos, coalesce(e.paid, 0), coalesce(e.owed, 0))
                   AS culprit
              FROM usage_events u
              LEFT JOIN (SELECT account_id, cause_id,
                                -sum(delta) FILTER (WHERE kind = 'usage') AS paid,
                                sum(delta) FILTER (WHERE kind = 'debt_incurred') AS owed
                           FROM ledger_entries WHERE cause_type = 'usage_event' GROUP BY 1, 2) e
                ON e.account_id = u.account_id AND e.cause_id = u.usage_id
             WHERE u.meter <> 'cost-record'
               AND (coalesce(e.owed, 0) <> u.debt_nanos
                    OR coalesce(e.paid, 0)
                       <> CASE WHEN u.status IN ('charged', 'debt') THEN u.cost_nanos - u.debt_nanos ELSE 0 END)
             ORDER BY u.account_id, u.usage_id LIMIT 1
            """,
        "a recorded usage event without its id": """
            SELECT format('account %s, usage %s: %s, keys %s', u.account_id, u.usage_id, u.status, coalesce(k.n, 0))
                   AS culprit
              FROM usage_events u
              LEFT JOIN (SELECT account_id, usage_id, count(*) AS n FROM usage_keys GROUP BY 1, 2) k
                ON k.account_id = u.account_id AND k.usage_id = u.usage_id
             WHERE coalesce(k.n, 0) <> CASE WHEN u.status = 'refused' THEN 0 ELSE 1 END
             ORDER BY u.account_id, u.usage_id LIMIT 1
            """,
        "refused usage without its event": """
            SELECT format('account %s, usage %s', t.account_id, t.usage_id) AS culprit
              FROM usage_attempts t
              LEFT JOIN usage_events u
                ON u.account_id = t.account_id AND u.usage_id = t.usage_id AND u.status = 'refused'
             WHERE u.usage_id IS NULL
             ORDER BY t.account_id, t.usage_id LIMIT 1
            """,
    },
    causes={
        "usage_event": """
            EXISTS (SELECT FROM usage_events u WHERE u.account_id = e.account_id AND u.usage_id = e.cause_id)
            """,
    },
)
