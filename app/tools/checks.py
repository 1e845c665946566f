"""Tools' part of the proof of the books: each use is what its ledger entry or its charge says."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a tool use that is not what its entry says": """
            SELECT format('account %s, tool use %s, paid by %s: entries %s, sum %s', u.account_id, u.usage_log_id,
                          u.source, coalesce(e.n, 0), coalesce(e.total, 0)) AS culprit
              FROM product_usage_log u
              LEFT JOIN (SELECT account_id, cause_id, count(*) AS n, min(pool) AS pool, sum(delta) AS total
                           FROM ledger_entries WHERE cause_type = 'tool_usage' AND kind = 'tool_charge' GROUP BY 1, 2) e
                ON e.account_id = u.account_id AND e.cause_id = u.usage_log_id
              LEFT JOIN charges c
                ON c.account_id = u.account_id AND c.charge_id = u.charge_id AND c.operation = 'tool_charge'
             WHERE CASE WHEN u.source = 'main_pool' THEN e.n IS NOT NULL OR c.charge_id IS NULL
                        ELSE (e.n, e.pool, e.total) IS DISTINCT FROM (1, u.product_type || '/' || u.source, -1) END
             ORDER BY u.account_id, u.usage_log_id LIMIT 1
            """,
        "a tool charge without its use": """
            SELECT format('account %s, charge %s', c.account_id, c.charge_id) AS culprit
              FROM charges c
             WHERE c.operation = 'tool_charge' AND NOT EXISTS (
                    SELECT FROM product_usage_log u WHERE u.account_id = c.account_id AND u.charge_id = c.charge_id)
             ORDER BY c.account_id, c.entry_no LIMIT 1
            """,
    },
    balances=(
        "SELECT account_id, product_type || '/free', 'credit', NULL, free FROM product_inventory",
        "SELECT account_id, product_type || '/paid', 'credit', NULL, paid FROM product_inventory",
    ),
    causes={
        "tool_usage": """
            EXISTS (SELECT FROM product_usage_log u WHERE u.account_id = e.account_id AND u.usage_log_id = e.cause_id)
            """,
        "tool_grant": "true",
    },
)
