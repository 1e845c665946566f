"""The holds' part of the proof of the books: a hold took, spent and returned what its ledger entries say."""

from app.ledger.checks import Proof

PROOF = Proof(
    checks={
        "a hold that is not what its entries say": """
            SELECT format('account %s, hold %s: %s, %s of which %s spent; entries took %s, spent %s, returned %s',
                          h.account_id, h.hold_id, h.status, h.amount, h.captured, coalesce(e.taken, 0),
                          coalesce(s.spent, 0), coalesce(e.returned, 0)) AS culprit
              FROM holds h
              LEFT JOIN (SELECT account_id, cause_id, sum(delta) FILTER (WHERE kind = 'hold') AS taken,
                                -sum(delta) FILTER (WHERE kind <> 'hold') AS returned
                           FROM ledger_entries WHERE cause_type = 'hold' AND pool = 'held' GROUP BY 1, 2) e
                ON e.account_id = h.account_id AND e.cause_id = h.hold_id
              LEFT JOIN (SELECT account_id, cause_id, -sum(delta) AS spent
                           FROM ledger_entries WHERE cause_type <> 'hold' AND pool = 'held' GROUP BY 1, 2) s
                ON s.account_id = h.account_id AND s.cause_id = h.spending_id
             WHERE h.amount <> coalesce(e.taken, 0) OR h.captured <> coalesce(s.spent, 0)
                OR coalesce(e.returned, 0) <> CASE h.status WHEN 'held' THEN 0 ELSE h.amount - h.captured END
             ORDER BY h.account_id, h.hold_id LIMIT 1
            """,
        "spending from holds without a hold": """
            SELECT format('account %s, entry %s', e.account_id, e.entry_no) AS culprit
              FROM ledger_entries e
              LEFT JOIN holds h ON h.account_id = e.account_id AND h.spending_id = e.cause_id
             WHERE e.pool = 'held' AND e.cause_type <> 'hold' AND h.hold_id IS NULL
             ORDER BY e.account_id, e.entry_no LIMIT 1
            """,
    },
)
