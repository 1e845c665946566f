"""Canonical form of ledger entries: the exact bytes that a hash of the ledger chain covers, as an SQL expression.

    hash = SHA-256( netstrings of: FORM, the hash before it in hexadecimal digits, the entry's fields in this order )

A netstring is the length of a text in bytes of UTF-8, a colon, the text, and a comma: `3:USD,`. So no two entries have
the same bytes, even if their texts contain separators. Integers are decimal texts, ids are in small letters with
hyphens, and times are UTC with six fraction digits. docs/receipts.md describes the form for auditors.

Never change this form: stored hashes cover it. A column that the ledger gets later is not part of it. A form that
covers more fields has another name, and the chain gets a column that says which entries have it.
"""

from app.db.sql import sql

FORM = "ciris-billing-entry-v1"
FIRST_HASH = 64 * "0"
"""The hash before an account's first entry."""
NO_HASH = f"\\x{FIRST_HASH}"
"""The same, as PostgreSQL writes bytes."""
SPAN = 1000
"""At every such entry the chain also stores `latest`, so that a balance is found without reading older entries."""


_IS_USUAL = "{column} BETWEEN '0001-01-01Z' AND '9999-12-31 23:59:59.999999Z'"
_USUAL = """to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_UNUSUAL = "CAST({column} AT TIME ZONE 'UTC' AS text)"


def time_text(column: str) -> str:
    """Return an SQL expression of a time as text: `2026-11-30T09:30:00.000000Z`, or for example `infinity`."""
    return sql(f"CASE WHEN {_IS_USUAL} THEN {_USUAL} ELSE {_UNUSUAL} END", column=column)


def _netstring(text: str) -> str:
    """The database's encoding is UTF-8, so its number of bytes is the one to state."""
    return sql("octet_length({text}) || ':' || {text} || ','", text=text)


def _time(column: str) -> str:
    """Without formatting a usual time twice: its length is known."""
    return sql(
        f"CASE WHEN {_IS_USUAL} THEN '27:' || {_USUAL} ELSE octet_length({_UNUSUAL}) || ':' || {_UNUSUAL} END || ','",
        column=column,
    )


_FIELDS = {
    "account_id": "'36:' || e.account_id || ','",
    "entry_no": _netstring("CAST(e.entry_no AS text)"),
    "pool": _netstring("e.pool"),
    "unit": _netstring("e.unit"),
    "grant_id": "coalesce('36:' || e.grant_id, '0:') || ','",
    "delta": _netstring("CAST(e.delta AS text)"),
    "balance_after": _netstring("CAST(e.balance_after AS text)"),
    "kind": _netstring("e.kind"),
    "cause_type": _netstring("e.cause_type"),
    "cause_id": "'36:' || e.cause_id || ','",
    "actor_type": _netstring("e.actor_type"),
    "actor_id": _netstring("e.actor_id"),
    "created_at": _time("e.created_at"),
}
"""The netstrings of a ledger entry `e` in their order, by column. No grant is an empty text."""


def hash_of(before: str) -> str:
    """Return an SQL expression of the hash of the ledger entry `e` after the hash `before`."""
    return sql(
        "sha256(convert_to('{length}:{form},64:' || encode({before}, 'hex') || ',' || {fields}, 'UTF8'))",
        length=len(FORM),
        form=FORM,
        before=before,
        fields=" || ".join(_FIELDS.values()),
    )


def newest_of_pools(account: str, span: str, upto: str) -> str:
    """Return a query of the last entry of each pool that is not empty, after the entry `upto` of an account.

    `span`: the last multiple of SPAN below it, whose `latest` tells all about earlier entries. All are SQL expressions.
    """
    return sql(
        """
        SELECT entry_no, pool, unit, grant_id, balance_after
          FROM (SELECT DISTINCT ON (pool, unit, grant_id) entry_no, pool, unit, grant_id, balance_after
                  FROM (SELECT entry_no, pool, unit, grant_id, balance_after FROM ledger_entries
                         WHERE account_id = {account} AND entry_no > {span} AND entry_no <= {upto}
                         UNION ALL
                        SELECT entry_no, pool, unit, grant_id, balance_after FROM ledger_entries
                         WHERE account_id = {account}
                           AND entry_no = ANY (CAST((SELECT p.latest FROM ledger_chain p WHERE p.account_id = {account}
                                                        AND p.entry_no = {span}) AS bigint[]))) moved
                 ORDER BY pool, unit, grant_id, entry_no DESC) newest
         WHERE balance_after <> 0""",
        account=account,
        span=span,
        upto=upto,
    )
