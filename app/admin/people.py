"""People: the persons of accounts, for lists of purchases, alerts and audit entries, by one statement per page."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.admin.users import queries as user_queries
from app.db import Session

Row = Mapping[str, Any]
People = Mapping[UUID, Row]
MAX_FOUND = 500
"""The most accounts that a search for a buyer finds, newest first."""
_LIST_PEOPLE = text(
    """
    SELECT a.account_id, p.customer_email, p.display_name, i.external_id, a.erased_at IS NOT NULL AS erased
      FROM accounts a
      LEFT JOIN LATERAL (SELECT external_id FROM account_identities
                          WHERE account_id = a.account_id ORDER BY created_at LIMIT 1) i ON true
      LEFT JOIN account_profiles p ON p.account_id = a.account_id
     WHERE a.account_id = ANY (:account_ids)
    """
)
_LIST_BUYERS = text("SELECT purchase_id, account_id FROM purchases WHERE purchase_id = ANY (:purchase_ids)")


async def find_people(db: Session, account_ids: Collection[UUID]) -> People:
    """Return the known persons of accounts, by account id."""
    if not account_ids:
        return {}
    rows = await db.execute(_LIST_PEOPLE, {"account_ids": list(set(account_ids))})
    return {row["account_id"]: dict(row) for row in rows.mappings()}


async def find_buyers(db: Session, purchase_ids: Collection[UUID]) -> Mapping[UUID, UUID]:
    """Return the accounts of purchases, by purchase id."""
    if not purchase_ids:
        return {}
    rows = await db.execute(_LIST_BUYERS, {"purchase_ids": list(set(purchase_ids))})
    return {row.purchase_id: row.account_id for row in rows}


# An alert names a card by a digest. Its accounts' purchases with that card have brand and last digits.
_LIST_CARDS = text(
    """
    SELECT DISTINCT ON (w.alert_id) w.alert_id, p.card_brand, p.card_last4
      FROM unnest(CAST(:alert_ids AS uuid[]), CAST(:account_ids AS uuid[]), CAST(:subjects AS text[]))
           AS w (alert_id, account_id, subject)
      JOIN purchases p ON p.account_id = w.account_id
     WHERE p.card_last4 IS NOT NULL
       AND left(encode(sha256(convert_to(p.card_fingerprint, 'UTF8')), 'hex'), 16) = w.subject
     ORDER BY w.alert_id, p.purchase_id DESC
    """
)


async def find_cards(db: Session, alerts: Sequence[Row]) -> Mapping[UUID, Row]:
    """Return brand and last digits of the cards that alerts are about, by alert id, if known."""
    named = [(row["alert_id"], account_id, row["subject"]) for row in alerts for account_id in row["account_ids"]]
    if not named:
        return {}
    alert_ids, account_ids, subjects = zip(*named, strict=True)
    values = {"alert_ids": list(alert_ids), "account_ids": list(account_ids), "subjects": list(subjects)}
    rows = (await db.execute(_LIST_CARDS, values)).mappings()
    return {row["alert_id"]: {name: row[name] for name in ("card_brand", "card_last4")} for row in rows}


async def search_accounts(db: Session, search: str) -> Sequence[UUID]:
    """Return the accounts that a search for a user finds, in both environments."""
    rows = await user_queries.list_users(db, before=None, limit=MAX_FOUND, search=search)
    return [row["account_id"] for row in rows]
