"""The cost records' part of the proof of the books: a record costs what its items, its entries and its event say."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a cost record that is not the sum of its items": """
            SELECT format('record %s: %s items of %s nanos; found %s of %s', r.record_id, r.items, r.cost_nanos,
                          coalesce(i.n, 0), coalesce(i.nanos, 0)) AS culprit
              FROM cost_records r
              LEFT JOIN (SELECT record_id, count(*) AS n, sum(cost_nanos) AS nanos FROM cost_record_items GROUP BY 1) i
                USING (record_id)
             WHERE (r.items, r.cost_nanos) <> (coalesce(i.n, 0), coalesce(i.nanos, 0))
             ORDER BY r.record_id LIMIT 1
            """,
        "a cost record that is not what its entries and its event say": """
            SELECT format('account %s, record %s: %s, cost %s; event %s of %s, %s owed; entries %s and %s',
                          r.account_id, r.record_id, r.status, r.cost_nanos, u.status, u.cost_nanos, u.debt_nanos,
                          coalesce(e.paid, 0), coalesce(e.owed, 0)) AS culprit
              FROM cost_records r
              LEFT JOIN usage_events u
                ON u.account_id = r.account_id AND u.usage_id = r.usage_id AND u.meter = 'cost-record'
              LEFT JOIN (SELECT account_id, cause_id,
                                -sum(delta) FILTER (WHERE kind = 'usage') AS paid,
                                sum(delta) FILTER (WHERE kind = 'debt_incurred') AS owed
                           FROM ledger_entries WHERE cause_type = 'cost_record' GROUP BY 1, 2) e
                ON e.account_id = r.account_id AND e.cause_id = r.record_id
             WHERE (r.usage_id IS NULL) <> (u.usage_id IS NULL)
                OR u.cost_nanos <> r.cost_nanos
                OR coalesce(e.owed, 0) <> coalesce(u.debt_nanos, 0)
                OR coalesce(e.paid, 0)
                   <> CASE WHEN u.status IN ('charged', 'debt') THEN u.cost_nanos - u.debt_nanos ELSE 0 END
             ORDER BY r.record_id LIMIT 1
            """,
        "a cost record without its account": """
            SELECT format('account %s, record %s', r.account_id, r.record_id) AS culprit
              FROM cost_records r LEFT JOIN accounts a USING (account_id)
             WHERE r.client_key = '' AND (a.account_id IS NULL OR a.environment <> r.environment)
             ORDER BY r.record_id LIMIT 1
            """,
        "a usage event of a cost record without the record": """
            SELECT format('account %s, usage %s', u.account_id, u.usage_id) AS culprit
              FROM usage_events u
              LEFT JOIN cost_records r ON r.account_id = u.account_id AND r.usage_id = u.usage_id
             WHERE u.meter = 'cost-record' AND r.record_id IS NULL
             ORDER BY u.account_id, u.usage_id LIMIT 1
            """,
    },
    causes={
        "cost_record": """
            EXISTS (SELECT FROM cost_records r WHERE r.account_id = e.account_id AND r.record_id = e.cause_id)
            """,
    },
)
