"""Erasure of a person: deletes the data that names them, and keeps their purchases and charges.

Separate tables name the person: identities, profiles, token cut-offs. Their rows are deleted in one short transaction,
which also closes the account permanently. Texts that callers wrote beside movements of credits (descriptions, keys,
metadata) may name a person as well. A background job removes them from the books, a bounded number of rows at a time.
Ledger entries contain no such texts and are not changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from app.accounts import queries
from app.accounts.closing import settle_purchases
from app.accounts.errors import AccountInDebt, DeletionNotConfigured
from app.accounts.returning import IdentityDigests
from app.auth.caller import Environment
from app.auth.id_tokens.revocations import forget_user
from app.db import Database, Session
from app.db.sql import sql
from app.ledger.errors import AccountNotFound
from app.ledger.locked_account import lock_account
from app.ledger.refill_hooks import end_refills
from app.outbox import defer

FORGET_TEXTS = "forget_texts"
"""Name of the task that removes callers' texts from an erased account's books."""
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Texts:
    """Columns of `table` with free text from callers, and the SQL expression that replaces each column's value.

    `key` identifies a row within its account.
    """

    table: str
    key: str
    become: Mapping[str, str]


BOOKS = (
    Texts(
        "charges",
        "charge_id",
        {
            "idempotency_key": "NULL",
            "description": "NULL",
            "run_id": "NULL",
            # An agent is not a person, and reports group by agent.
            "metadata": "CASE WHEN metadata ? 'agent_id' THEN jsonb_build_object('agent_id', metadata -> 'agent_id')"
            " ELSE '{}' END",
        },
    ),
    Texts("charge_purposes", "charge_id", {"purpose": "NULL"}),
    Texts(
        "credits",
        "credit_id",
        {
            "idempotency_key": "NULL",
            "description": "NULL",
            # A payment's id links a credit to its purchase. Only Stripe can resolve it to a person.
            "external_transaction_id": "(SELECT p.payment_intent_id FROM purchases p WHERE p.account_id = t.account_id"
            " AND p.payment_intent_id = t.external_transaction_id)",
        },
    ),
    Texts("free_grants", "grant_id", {"idempotency_key": "NULL"}),
    Texts("grants", "grant_id", {"idempotency_key": "NULL"}),
    Texts(
        "refused_requests",
        "refusal_id",
        # A refusal by a run or a limit names it, in the sentence and in its figures.
        {"request_id": "NULL", "detail": "code", "figures": "figures - ARRAY['run', 'brake', 'limit']"},
    ),
    Texts(
        "limits",
        "limit_id",
        {
            "scope_value": "CASE WHEN scope IN ('account', 'key') THEN scope_value ELSE CAST(limit_id AS text) END",
            "removed_at": "coalesce(removed_at, now())",
        },
    ),
    Texts("runs", "run_uuid", {"run_id": "NULL", "metadata": "'{}'"}),
    Texts("approvals", "approval_id", {"run_id": "NULL"}),
    Texts("holds", "hold_id", {"idempotency_key": "NULL", "run_id": "NULL", "metadata": "'{}'", "outcome": "NULL"}),
)


async def lock_person(tx: Session, account_id: UUID) -> bool:
    """Block the erasure of the account's person until commit. Return False if they were erased. Delays no charge."""
    return await queries.lock_person(tx, account_id)


async def erase_person(tx: Session, account_id: UUID, now: datetime) -> Environment | None:
    """Delete the account's identities and profile, close it permanently, and enqueue the removal of callers' texts.

    Locks the account, so that no transaction writes about the person at the same time. Every process forgets the
    identity within 1 s of the commit. The identity may return as a new account. Returns the account's environment, or
    None when the person was erased before: then the call has no effect. Raises AccountNotFound.
    """
    account = await queries.lock_account_for_erasure(tx, account_id)
    if account is None:
        raise AccountNotFound
    if account.erased_at is not None:
        return None
    environment: Environment = account.environment
    for oauth_provider, external_id in await queries.delete_identities(tx, account_id):
        await forget_user(tx, environment=environment, oauth_provider=oauth_provider, external_id=external_id)
    await queries.delete_profile(tx, account_id)
    await queries.close_erased_account(tx, account_id, now)
    await end_refills(tx, account_id, "closed", now)
    await defer(tx, FORGET_TEXTS, {"account_id": str(account_id)}, now)
    await settle_purchases(tx, account_id, now)
    return environment


async def delete_own_account(tx: Session, account_id: UUID, digests: IdentityDigests, now: datetime) -> None:
    """Close the account at its user's request and erase the person, as `erase_person` does. The balance is lost.

    A digest of each identity remains, so that a later account gets nothing that is given once. Raises
    DeletionNotConfigured, AccountNotFound, AccountInDebt, AccountSuspended and AccountClosed.
    """
    if not digests.are_possible:
        raise DeletionNotConfigured
    # First the lock that the erasure needs: raising a weaker one could deadlock.
    if await queries.lock_account_for_erasure(tx, account_id) is None:
        raise AccountNotFound
    account = await lock_account(tx, account_id)
    account.require_active()
    if account.balances["debt"] or account.balances["money_debt"]:
        raise AccountInDebt
    identities = await queries.list_identities(tx, account_id)
    await digests.remember(tx, [(account.environment, *identity) for identity in identities], now)
    await erase_person(tx, account_id, now)


async def forget_texts(db: Database, account_id: UUID, tables: Sequence[Texts]) -> None:
    """Remove callers' texts from the books of an erased account, in transactions of a bounded size.

    Complete when it returns. Idempotent: an interrupted run is repeated.
    """
    for texts in tables:
        await _forget_columns(db, account_id, texts)


async def _forget_columns(db: Database, account_id: UUID, texts: Texts) -> None:
    statement = text(
        sql(
            """
            WITH page AS (
                SELECT {key} AS key FROM {table}
                 WHERE account_id = :account_id AND (CAST(:after AS uuid) IS NULL OR {key} > :after)
                 ORDER BY {key} LIMIT :limit),
            forgotten AS (
                UPDATE {table} t SET {changes} FROM page
                 WHERE t.account_id = :account_id AND t.{key} = page.key
                 RETURNING t.{key} AS key)
            SELECT key FROM forgotten ORDER BY key DESC LIMIT 1
            """,
            key=texts.key,
            table=texts.table,
            changes=", ".join(f"{column} = {value}" for column, value in texts.become.items()),
        )
    )
    after: UUID | None = None
    while True:
        async with db.transaction() as tx:
            values = {"account_id": account_id, "after": after, "limit": ROWS_AT_ONCE}
            after = (await tx.execute(statement, values)).scalar_one_or_none()
        if after is None:
            return
