"""Payments' part of the proof of the books: a purchase is what its credits, or its credits of money, say."""

from app.db.sql import sql
from app.ledger.checks import Proof


def _check(credits: str, key: str, amount: str, sold: str, refunded: str, disputed: str, condition: str) -> str:
    """Return the query for a purchase that sold another amount than the sum of its bookings in the table `credits`."""
    return sql(
        """
        SELECT format('account %s, purchase %s: sold %s less %s, booked %s', p.account_id, p.purchase_id,
                      p.{sold}, p.{refunded} + p.{disputed}, coalesce(sold.{amount}, 0) + coalesce(back.total, 0))
               AS culprit
          FROM purchases p
          LEFT JOIN {credits} sold ON sold.account_id = p.account_id AND sold.{key} = p.credit_id
          LEFT JOIN (SELECT account_id, external_transaction_id, sum({amount}) AS total FROM {credits}
                      WHERE transaction_type IN ('refund_reversal', 'dispute_reversal', 'dispute_reinstatement')
                      GROUP BY 1, 2) back
            ON back.account_id = p.account_id AND back.external_transaction_id = p.payment_intent_id
         WHERE p.unit {condition} 'credit'
           AND CASE WHEN p.credit_id IS NULL THEN 0 ELSE p.{sold} - p.{refunded} - p.{disputed} END
               <> coalesce(sold.{amount}, 0) + coalesce(back.total, 0)
         ORDER BY p.account_id, p.purchase_id LIMIT 1
        """,
        credits=credits,
        key=key,
        amount=amount,
        sold=sold,
        refunded=refunded,
        disputed=disputed,
        condition=condition,
    )


PROOF = Proof(
    checks={
        "a purchase that is not what its credits say": _check(
            "credits", "credit_id", "credits", "credits", "credits_refunded", "credits_disputed", "="
        ),
        "a purchase of money that is not what its credits say": _check(
            "money_credits",
            "money_credit_id",
            "amount_nanos",
            "money_nanos",
            "money_refunded_nanos",
            "money_disputed_nanos",
            "<>",
        ),
    },
)
