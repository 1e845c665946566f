"""Customers: an account's customer at the payment provider, which saved cards and subscriptions belong to.

    customer_id = await customers.customer_of("live", account_id, now)

An account has one customer at a provider. The row is stored before the provider is called, and the idempotency key of
the request names the account, so concurrent callers and repeats after a crash get the same customer. A day later the
provider has forgotten the key: a repeat then creates another customer. The first one stays without cards and
subscriptions, because users only ever get the stored customer.
"""

from datetime import datetime
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.db import Database
from app.db.version_mark import VersionMark
from app.payments import customer_queries as queries
from app.payments.errors import PaymentProviderFailed
from app.payments.facts import Provider
from app.payments.stripe_customers import StripeCustomers
from app.payments.stripe_gateway import StripeGateway

SINCE = "0045"
"""Versions before this revision do not know customers (ADR 26)."""
log = structlog.get_logger()


class Customers:
    """One per process. Its methods open their own transactions, and call the provider outside of them."""

    def __init__(self, db: Database, gateway: StripeGateway) -> None:
        self._db = db
        self._provider: Provider = gateway.provider
        self._stripe = StripeCustomers(gateway)
        self._mark = VersionMark(db)

    async def customer_of(self, environment: Environment, account_id: UUID, now: datetime) -> str:
        """Return the id of the account's customer at the provider. Creates a missing one, once.

        `environment` is the account's. Raises UpgradeInProgress, PaymentsNotConfigured, PaymentProviderUnavailable,
        PaymentProviderRejects.
        """
        known = await self.known_customer(account_id)
        if known is not None:
            return known
        await self._mark.require(SINCE)
        customer_id, attempt = await self._stored(account_id, environment, now)
        while customer_id is None:
            await self._create(environment, account_id, attempt, now)
            customer_id, attempt = await self._stored(account_id, environment, now)
        return customer_id

    async def _stored(self, account_id: UUID, environment: Environment, now: datetime) -> tuple[str | None, int]:
        """Return the stored customer, and the number of the attempt to create it. Insert a missing row. Commits."""
        async with self._db.transaction() as tx:
            await queries.insert_customer(tx, account_id, self._provider, environment, now)
            row = await queries.find_customer(tx, account_id, self._provider)
        assert row is not None
        return row["customer_id"], row["attempt"]

    async def _create(self, environment: Environment, account_id: UUID, attempt: int, now: datetime) -> None:
        """Create the customer at the provider and store it. Nothing is stored if another attempt has begun."""
        try:
            created = await self._stripe.create(environment, account_id, attempt)
        except PaymentProviderFailed:
            # Stripe repeats its failure for this idempotency key, so the next attempt needs another key.
            async with self._db.transaction() as tx:
                await queries.begin_next_attempt(tx, account_id, self._provider, attempt, now)
            raise
        async with self._db.transaction() as tx:
            if await queries.store_customer(tx, account_id, self._provider, attempt, created, now):
                await queries.insert_object(tx, environment, self._provider, created, "customer", account_id, now)

    async def known_customer(self, account_id: UUID) -> str | None:
        """Return the id of the account's customer, if it is stored."""
        async with self._db.read() as db:
            row = await queries.find_customer(db, account_id, self._provider)
        return None if row is None else row["customer_id"]

    async def account_of(self, environment: Environment, customer_id: str) -> UUID | None:
        """Return the account whose customer this is."""
        async with self._db.read() as db:
            row = await queries.find_object(db, environment, self._provider, customer_id)
        return None if row is None or row["kind"] != "customer" else row["account_id"]

    async def forget_missing(self, environment: Environment, account_id: UUID, customer_id: str, now: datetime) -> bool:
        """Forget a stored customer that the provider does not have, so that the next call creates another.

        Call it when the provider rejects the customer: it was deleted there, or the keys now belong to another account
        of the provider. Return False if the provider has it.
        """
        if await self._stripe.exists(environment, customer_id):
            return False
        log.error("customer_missing", account_id=str(account_id), customer_id=customer_id)
        async with self._db.transaction() as tx:
            row = await queries.find_customer(tx, account_id, self._provider)
            if row is not None and row["customer_id"] == customer_id:
                await queries.begin_next_attempt(tx, account_id, self._provider, row["attempt"], now)
        return True

    async def delete(self, environment: Environment, account_id: UUID) -> None:
        """Delete the account's customer at the provider, with its saved cards, when the person is erased.

        Idempotent. The id stays here, so that late events still find the account.
        """
        customer_id = await self.known_customer(account_id)
        if customer_id is not None:
            await self._stripe.delete(environment, customer_id)
