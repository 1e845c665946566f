"""Wallet's part of the proof of the books: money credits are what their ledger entries say."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a credit of money that is not what its entries say": """
            SELECT format('account %s, money credit %s: recorded %s %s, entries %s %s', m.account_id, m.money_credit_id,
                          m.amount_nanos, m.currency, coalesce(e.total, 0), e.unit) AS culprit
              FROM money_credits m
              LEFT JOIN (SELECT account_id, cause_id, min(unit) AS unit,
                                sum(CASE WHEN kind = 'debt_incurred' THEN -delta
                                         WHEN kind = 'debt_repayment' THEN 0 ELSE delta END) AS total
                           FROM ledger_entries WHERE cause_type = 'money_credit' GROUP BY 1, 2) e
                ON e.account_id = m.account_id AND e.cause_id = m.money_credit_id
             WHERE (m.amount_nanos, m.currency) IS DISTINCT FROM (coalesce(e.total, 0), e.unit)
             ORDER BY m.account_id, m.entry_no LIMIT 1
            """,
    },
    causes={
        "money_credit": """
            EXISTS (SELECT FROM money_credits m WHERE m.account_id = e.account_id AND m.money_credit_id = e.cause_id)
            """,
    },
)
