"""Accounts' part of the proof of the books: every identity has an account of its environment."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "an identity without its account": """
            SELECT format('%s identity of account %s', i.environment, i.account_id) AS culprit
              FROM account_identities i LEFT JOIN accounts a USING (account_id)
             WHERE a.account_id IS NULL OR a.environment <> i.environment
             ORDER BY i.account_id LIMIT 1
            """,
    },
)
