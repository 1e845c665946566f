"""The limits' part of the proof of the books: every limit in force is read when its account spends."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "an account whose limits are not read": """
            SELECT format('account %s, limit %s', l.account_id, l.limit_id) AS culprit
              FROM limits l JOIN accounts a ON a.account_id = l.account_id
             WHERE l.removed_at IS NULL AND NOT a.has_limits
             ORDER BY l.account_id, l.limit_id LIMIT 1
            """,
    },
)
