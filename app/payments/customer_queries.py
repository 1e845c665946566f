"""SQL of customers at payment providers, and of the accounts of providers' objects: one statement a function."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from app.auth.caller import Environment
from app.db.statements import Tx, fetch
from app.payments.facts import Provider

Row = Mapping[str, Any]
ObjectKind = Literal["customer", "subscription", "invoice", "payment"]
_INSERT = """
    INSERT INTO payment_customers (account_id, provider, environment, attempt, created_at, updated_at)
    VALUES ($1, $2, $3, 1, $4, $4) ON CONFLICT DO NOTHING
    """
_FIND = "SELECT customer_id, attempt FROM payment_customers WHERE account_id = $1 AND provider = $2"
_FIND_OBJECT = """
    SELECT account_id, kind, parent_id FROM provider_objects
     WHERE environment = $1 AND provider = $2 AND object_id = $3
    """
_INSERT_OBJECT = """
    INSERT INTO provider_objects (environment, provider, object_id, kind, account_id, parent_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
    """
_STORE = """
    UPDATE payment_customers SET customer_id = $4, updated_at = $5
     WHERE account_id = $1 AND provider = $2 AND attempt = $3 AND customer_id IS NULL
    RETURNING customer_id
    """
_BEGIN_NEXT_ATTEMPT = """
    UPDATE payment_customers SET customer_id = NULL, attempt = attempt + 1, updated_at = $4
     WHERE account_id = $1 AND provider = $2 AND attempt = $3
    """


async def insert_customer(
    tx: Tx, account_id: UUID, provider: Provider, environment: Environment, now: datetime
) -> None:
    """Store that the account needs a customer, unless it has one. Waits for a concurrent insert to commit."""
    await fetch(tx, _INSERT, account_id, provider, environment, now)


async def find_customer(tx: Tx, account_id: UUID, provider: Provider) -> Row | None:
    rows = await fetch(tx, _FIND, account_id, provider)
    return rows[0] if rows else None


async def find_object(tx: Tx, environment: Environment, provider: Provider, object_id: str) -> Row | None:
    """Return the account, the kind and the parent of a provider's object."""
    rows = await fetch(tx, _FIND_OBJECT, environment, provider, object_id)
    return rows[0] if rows else None


async def insert_object(
    tx: Tx,
    environment: Environment,
    provider: Provider,
    object_id: str,
    kind: ObjectKind,
    account_id: UUID,
    now: datetime,
    *,
    parent_id: str | None = None,
) -> None:
    """Store the account of a provider's object, unless it is known. An object never changes its account."""
    await fetch(tx, _INSERT_OBJECT, environment, provider, object_id, kind, account_id, parent_id, now)


async def store_customer(
    tx: Tx, account_id: UUID, provider: Provider, attempt: int, customer_id: str, now: datetime
) -> bool:
    """Store the customer that an attempt has created. Return False if the attempt has one, or another has begun."""
    return bool(await fetch(tx, _STORE, account_id, provider, attempt, customer_id, now))


async def begin_next_attempt(tx: Tx, account_id: UUID, provider: Provider, attempt: int, now: datetime) -> None:
    """Let the next call create another customer. No effect if another caller has begun the next attempt."""
    await fetch(tx, _BEGIN_NEXT_ATTEMPT, account_id, provider, attempt, now)
