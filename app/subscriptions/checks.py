"""Subscriptions' part of the proof of the books: periods have granted what their grants and credits say."""

from app.db.sql import sql
from app.ledger.checks import Proof


def _taken_back(credits: str, amount: str, condition: str) -> str:
    """Return the query for an invoice whose grants were taken back by another amount than its credits say."""
    return sql(
        """
        SELECT format('account %s, invoice %s: taken back %s, booked %s', p.account_id, p.invoice_id, p.taken,
                      coalesce(-c.total, 0)) AS culprit
          FROM (SELECT account_id, invoice_id, sum(refunded + disputed) AS taken FROM period_grants
                 WHERE unit {condition} 'credit' GROUP BY 1, 2) p
          JOIN accounts a ON a.account_id = p.account_id AND a.erased_at IS NULL
          LEFT JOIN (SELECT account_id, external_transaction_id, sum({amount}) AS total FROM {credits}
                      WHERE transaction_type IN ('refund_reversal', 'dispute_reversal', 'dispute_reinstatement')
                      GROUP BY 1, 2) c
            ON c.account_id = p.account_id AND c.external_transaction_id = p.invoice_id
         WHERE p.taken <> coalesce(-c.total, 0)
         ORDER BY p.account_id, p.invoice_id LIMIT 1
        """,
        credits=credits,
        amount=amount,
        condition=condition,
    )


PROOF = Proof(
    checks={
        "a period that is not what its grant says": """
            SELECT format('account %s, period %s of %s: granted %s %s, recorded %s %s', p.account_id, p.period_start,
                          p.kind, g.amount, g.unit, p.amount, p.unit) AS culprit
              FROM period_grants p JOIN grants g ON g.account_id = p.account_id AND g.grant_id = p.grant_id
             WHERE (g.amount, g.unit, g.category) <> (p.amount, p.unit, 'subscription')
             ORDER BY p.account_id, p.period_start LIMIT 1
            """,
        "a refunded subscription that is not what its credits of money say": _taken_back(
            "money_credits", "amount_nanos", "<>"
        ),
        "a refunded subscription that is not what its credits say": _taken_back("credits", "credits", "="),
    },
)
