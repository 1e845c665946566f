"""Metering's part of the proof of the books.

An event costs what its ledger entries and corrections say, and is recorded once. The entries of events that represent
cost records have the record as their cause: `app.cost_records.checks`.
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
        "a correction that is not what its entries and its events say": """
            SELECT format('account %s, correction %s: %s %s; events %s, entries %s %s', k.account_id, k.correction_id,
                          k.amount_nanos, k.currency, coalesce(c.total, 0), coalesce(e.total, 0), e.unit) AS culprit
              FROM account_corrections k
              LEFT JOIN (SELECT c.account_id, c.correction_id, count(*) AS events,
                                coalesce(sum(cost_after_nanos - cost_before_nanos)
                                         FILTER (WHERE u.status IN ('charged', 'debt')), 0) AS total
                           FROM usage_corrections c JOIN usage_events u USING (account_id, usage_id) GROUP BY 1, 2) c
                USING (account_id, correction_id)
              LEFT JOIN (SELECT account_id, cause_id AS correction_id, min(unit) AS unit,
                                sum(CASE pool WHEN 'money_debt' THEN delta ELSE -delta END) AS total
                           FROM ledger_entries WHERE cause_type = 'correction' GROUP BY 1, 2) e
                USING (account_id, correction_id)
             WHERE c.events IS NULL OR (c.total, coalesce(e.total, 0)) <> (k.amount_nanos, k.amount_nanos)
                OR e.unit <> k.currency OR NOT EXISTS (SELECT FROM reratings r WHERE r.rerating_id = k.rerating_id)
             ORDER BY k.account_id, k.correction_id LIMIT 1
            """,
        "a corrected cost that does not follow the one before": """
            SELECT format('account %s, usage %s, correction %s: before %s; was %s', account_id, usage_id, correction_no,
                          before, was) AS culprit
              FROM (SELECT c.account_id, c.usage_id, c.correction_no, u.status,
                           ROW(c.cost_before_nanos, c.provider_cost_before_nanos) AS before,
                           CASE WHEN c.correction_no = 1 THEN ROW(u.cost_nanos, u.provider_cost_nanos)
                                ELSE lag(ROW(c.cost_after_nanos, c.provider_cost_after_nanos)) OVER w END AS was,
                           row_number() OVER w AS number
                      FROM usage_corrections c
                      LEFT JOIN usage_events u ON u.account_id = c.account_id AND u.usage_id = c.usage_id
                    WINDOW w AS (PARTITION BY c.account_id, c.usage_id ORDER BY c.correction_no)) chain
             WHERE number <> correction_no OR status IS NULL OR status = 'refused' OR before IS DISTINCT FROM was
             ORDER BY account_id, usage_id LIMIT 1
            """,
    },
    causes={
        "correction": """
            EXISTS (SELECT FROM account_corrections k
                     WHERE k.account_id = e.account_id AND k.correction_id = e.cause_id)
            """,
        "usage_event": """
            EXISTS (SELECT FROM usage_events u WHERE u.account_id = e.account_id AND u.usage_id = e.cause_id)
            """,
    },
)
