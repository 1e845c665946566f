"""The receipts' part of the proof of the books: the ledger chain is what the ledger's entries say.

Entries that are not in the chain yet are sound: the worker adds them. A chain has no gap, so entry and hash of a number
below its end must exist. Rewriting an entry changes its hash, and a rewritten hash changes the next one.

A superuser who rewrites an account's last entries with their hashes leaves no trace here. The statement that its user
keeps contradicts them.
"""

from app.db.sql import sql
from app.ledger.checks import Proof
from app.receipts.canonical import NO_HASH, SPAN, hash_of, newest_of_pools

_TRIGGER = "ledger_chain_append_only"

PROOF = Proof(
    checks={
        "a ledger chain that may be changed": sql(
            """
            SELECT format('role %s may change ledger_chain', current_user) AS culprit
              FROM pg_class
             WHERE oid = 'ledger_chain'::regclass AND NOT pg_has_role(relowner, 'USAGE')
               AND has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE')
             UNION ALL
            SELECT 'the trigger {trigger} is missing or off'
             WHERE NOT EXISTS (SELECT FROM pg_trigger
                                WHERE tgrelid = 'ledger_chain'::regclass AND tgname = '{trigger}'
                                  AND tgenabled IN ('O', 'A'))
             LIMIT 1
            """,
            trigger=_TRIGGER,
        ),
        "a ledger chain that is not its entries": sql(
            """
            SELECT format('account %s, entry %s: %s', account_id, entry_no, fault) AS culprit
              FROM (SELECT c.account_id, c.entry_no,
                           CASE WHEN before_no <> c.entry_no - 1
                                THEN format('the chain lacks entry %s', before_no + 1)
                                WHEN e.account_id IS NULL THEN 'the entry is missing'
                                WHEN c.hash <> {hash} THEN 'the entry, its order or its hash was changed' END AS fault
                      FROM (SELECT account_id, entry_no, hash, lag(entry_no, 1, 0::bigint) OVER in_order AS before_no,
                                   lag(hash, 1, '{no_hash}'::bytea) OVER in_order AS before
                              FROM ledger_chain
                            WINDOW in_order AS (PARTITION BY account_id ORDER BY entry_no)) c
                      LEFT JOIN ledger_entries e ON e.account_id = c.account_id AND e.entry_no = c.entry_no) linked
             WHERE fault IS NOT NULL
             ORDER BY account_id, entry_no LIMIT 1
            """,
            hash=hash_of("c.before"),
            no_hash=NO_HASH,
        ),
        "a ledger chain with wrong balances": sql(
            """
            SELECT format('account %s, entry %s: last entries of the pools %s, expected %s', account_id, entry_no,
                          latest, expected) AS culprit
              FROM (SELECT c.account_id, c.entry_no, c.latest,
                           coalesce((SELECT array_agg(n.entry_no ORDER BY n.entry_no) FROM ({newest}) n), '{{}}')
                           AS expected
                      FROM ledger_chain c
                     WHERE c.latest IS NOT NULL) at_spans
             WHERE latest <> expected
             ORDER BY account_id, entry_no LIMIT 1
            """,
            newest=newest_of_pools("c.account_id", span=f"c.entry_no - {SPAN}", upto="c.entry_no"),
        ),
    }
)
