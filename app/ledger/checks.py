"""What the ledger must never show. Each query returns a row with `culprit`, a text that names it, or nothing.

None looks for a negative balance: that the CHECK against it is in force is verified before these run, and the planner
relies on it, so that such a query would find nothing. A balance that got past it is not the sum of its entries.
"""

_BALANCES = """
    SELECT account_id, 'daily_free' AS pool, daily_free AS balance FROM accounts
    UNION ALL SELECT account_id, 'free', free FROM accounts
    UNION ALL SELECT account_id, 'paid', paid FROM accounts
    UNION ALL SELECT account_id, 'debt', debt FROM accounts
    UNION ALL SELECT account_id, product_type || '/free', free FROM product_inventory
    UNION ALL SELECT account_id, product_type || '/paid', paid FROM product_inventory
"""
_SPENT = "kind IN ('charge', 'tool_charge') AND pool IN ('daily_free', 'free', 'paid')"

CHECKS = {
    "a gap in an account's entries": """
        SELECT format('account %s: %s entries, last number %s, account says %s',
                      a.account_id, coalesce(e.n, 0), coalesce(e.last, 0), a.last_entry_no) AS culprit
          FROM accounts a
          LEFT JOIN (SELECT account_id, count(*) AS n, max(entry_no) AS last FROM ledger_entries GROUP BY 1) e
            USING (account_id)
         WHERE coalesce(e.n, 0) <> a.last_entry_no OR coalesce(e.last, 0) <> a.last_entry_no
         ORDER BY a.account_id LIMIT 1
        """,
    "a broken chain": """
        SELECT format('account %s, entry %s, pool %s: balance after is %s, expected %s',
                      account_id, entry_no, pool, balance_after, before + delta) AS culprit
          FROM (SELECT account_id, entry_no, pool, delta, balance_after,
                       coalesce(lag(balance_after) OVER (PARTITION BY account_id, pool ORDER BY entry_no), 0) AS before
                  FROM ledger_entries) chain
         WHERE balance_after <> before + delta OR balance_after < 0
         ORDER BY account_id, entry_no LIMIT 1
        """,
    "a balance that is not the sum of its entries": f"""
        SELECT format('account %s, pool %s: balance %s, sum of entries %s',
                      account_id, pool, coalesce(b.balance, 0), coalesce(s.total, 0)) AS culprit
          FROM ({_BALANCES}) b
          FULL JOIN (SELECT account_id, pool, sum(delta) AS total FROM ledger_entries GROUP BY 1, 2) s
            USING (account_id, pool)
         WHERE coalesce(b.balance, 0) <> coalesce(s.total, 0)
         ORDER BY account_id, pool LIMIT 1
        """,
    "a count of uses that is not the credits spent": f"""
        SELECT format('account %s: total_uses %s, credits spent %s',
                      a.account_id, a.total_uses, coalesce(s.spent, 0)) AS culprit
          FROM accounts a
          LEFT JOIN (SELECT account_id, -sum(delta) AS spent FROM ledger_entries WHERE {_SPENT} GROUP BY 1) s
            USING (account_id)
         WHERE a.total_uses <> coalesce(s.spent, 0)
         ORDER BY a.account_id LIMIT 1
        """,
    "a charge that is not what its entries say": f"""
        SELECT format('account %s, charge %s: recorded %s/%s/%s, entries %s/%s/%s', c.account_id, c.charge_id,
                      c.from_daily_free, c.from_free, c.from_paid,
                      coalesce(e.daily_free, 0), coalesce(e.free, 0), coalesce(e.paid, 0)) AS culprit
          FROM charges c
          LEFT JOIN (SELECT account_id, cause_id,
                            -sum(delta) FILTER (WHERE pool = 'daily_free') AS daily_free,
                            -sum(delta) FILTER (WHERE pool = 'free') AS free,
                            -sum(delta) FILTER (WHERE pool = 'paid') AS paid
                       FROM ledger_entries WHERE cause_type = 'charge' AND {_SPENT} GROUP BY 1, 2) e
            ON e.account_id = c.account_id AND e.cause_id = c.charge_id
         WHERE (c.from_daily_free, c.from_free, c.from_paid)
               <> (coalesce(e.daily_free, 0), coalesce(e.free, 0), coalesce(e.paid, 0))
         ORDER BY c.account_id, c.entry_no LIMIT 1
        """,
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
    "an entry without its cause": """
        SELECT format('account %s, entry %s: no %s %s', e.account_id, e.entry_no, e.cause_type, e.cause_id) AS culprit
          FROM ledger_entries e
         WHERE NOT CASE e.cause_type
               WHEN 'account' THEN e.cause_id = e.account_id
               WHEN 'charge' THEN EXISTS (
                    SELECT FROM charges c WHERE c.account_id = e.account_id AND c.charge_id = e.cause_id)
               WHEN 'credit' THEN EXISTS (
                    SELECT FROM credits c WHERE c.account_id = e.account_id AND c.credit_id = e.cause_id)
               WHEN 'tool_usage' THEN EXISTS (
                    SELECT FROM product_usage_log u
                     WHERE u.account_id = e.account_id AND u.usage_log_id = e.cause_id)
               WHEN 'tool_grant' THEN true
               ELSE false END
         ORDER BY e.account_id, e.entry_no LIMIT 1
        """,
    "a purchase that is not what its credits say": """
        SELECT format('account %s, purchase %s: credits %s less %s, booked %s', p.account_id, p.purchase_id, p.credits,
                      p.credits_refunded + p.credits_disputed, coalesce(sold.credits, 0) + coalesce(back.total, 0))
               AS culprit
          FROM purchases p
          LEFT JOIN credits sold ON sold.account_id = p.account_id AND sold.credit_id = p.credit_id
          LEFT JOIN (SELECT account_id, external_transaction_id, sum(credits) AS total FROM credits
                      WHERE transaction_type IN ('refund_reversal', 'dispute_reversal', 'dispute_reinstatement')
                      GROUP BY 1, 2) back
            ON back.account_id = p.account_id AND back.external_transaction_id = p.payment_intent_id
         WHERE CASE WHEN p.credit_id IS NULL THEN 0 ELSE p.credits - p.credits_refunded - p.credits_disputed END
               <> coalesce(sold.credits, 0) + coalesce(back.total, 0)
         ORDER BY p.account_id, p.purchase_id LIMIT 1
        """,
    "an identity without its account": """
        SELECT format('%s identity of account %s', i.environment, i.account_id) AS culprit
          FROM account_identities i LEFT JOIN accounts a USING (account_id)
         WHERE a.account_id IS NULL OR a.environment <> i.environment
         ORDER BY i.account_id LIMIT 1
        """,
    "a privilege to change the ledger": """
        SELECT format('role %s may change ledger_entries', current_user) AS culprit
          FROM pg_class
         WHERE oid = 'ledger_entries'::regclass AND NOT pg_has_role(relowner, 'USAGE')
           AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')
        """,
}
