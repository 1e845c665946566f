"""Payments' part of the proof of the books: a purchase is what its credits say."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a purchase that is not what its credits say": """
            SELECT format('account %s, purchase %s: credits %s less %s, booked %s', p.account_id, p.purchase_id,
                          p.credits, p.credits_refunded + p.credits_disputed,
                          coalesce(sold.credits, 0) + coalesce(back.total, 0)) AS culprit
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
    },
)
