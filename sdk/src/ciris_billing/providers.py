"""Credit providers for an agent's own API: the billing service, or memory for development."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from ciris_billing.async_client import AsyncBillingClient
from ciris_billing.errors import BillingError
from ciris_billing.gate import Passage, refusal
from ciris_billing.keys import charge_key
from ciris_billing.models import (
    Charge,
    ChargeMetadata,
    CreditStatus,
    Metadata,
    Pack,
    Purchase,
    PurchaseStatus,
    Transaction,
    TransactionPage,
    User,
    credits_for,
)


class BillingNotEnabled(BillingError):
    """Purchases are not enabled for this agent."""

    default_code = "billing_not_enabled"

    def __init__(self) -> None:
        super().__init__("Billing not enabled for this agent", status=403)


class CreditProvider(Protocol):
    """The interface that an agent's API needs. Methods raise BillingError and only return data of the given user."""

    async def check(self, user: User) -> CreditStatus: ...

    def gate(
        self,
        user: User,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
    ) -> AbstractAsyncContextManager[Passage]:
        """Check, run the block, and charge it: see AsyncBillingClient.gate."""

    async def packs(self, user: User) -> list[Pack]:
        """Return the packs that the user can buy; empty if purchases are not enabled."""

    async def create_purchase(self, user: User, *, return_url: str | None = None, pack: str | None = None) -> Purchase:
        """Create a purchase. Raises BillingNotEnabled if purchases are not enabled."""

    async def purchase_status(self, user: User, payment_id: str) -> PurchaseStatus:
        """Return a purchase's state. Raises NotFound for another user's payment, BillingNotEnabled if purchases are not
        enabled."""

    async def transactions(self, user: User, *, limit: int, offset: int) -> TransactionPage:
        """Return charges and credits, newest first."""


class CIRISBillingProvider:
    """Credits of the billing service, which users buy with Stripe. The client's policy and retries apply."""

    def __init__(self, client: AsyncBillingClient, *, agent_id: str | None = None, pack: str | None = None) -> None:
        self._client = client
        self._agent_id = agent_id
        self._pack = pack

    async def check(self, user: User) -> CreditStatus:
        return await self._client.check_credit(user, context={"agent_id": self._agent_id} if self._agent_id else None)

    def gate(
        self,
        user: User,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
    ) -> AbstractAsyncContextManager[Passage]:
        given: Metadata = {"agent_id": self._agent_id} if self._agent_id else {}
        given.update(metadata or {})
        return self._client.gate(
            user,
            interaction_id=interaction_id,
            amount_minor=amount_minor,
            description=description,
            metadata=given or None,
        )

    async def packs(self, user: User) -> list[Pack]:
        packs = await self._client.packs(User(user.oauth_provider, user.external_id))
        return [pack for pack in packs if self._pack in (None, pack.pack)]

    async def create_purchase(self, user: User, *, return_url: str | None = None, pack: str | None = None) -> Purchase:
        return await self._client.create_purchase(user, return_url=return_url, pack=self._pack or pack)

    async def purchase_status(self, user: User, payment_id: str) -> PurchaseStatus:
        return await self._client.purchase_status(payment_id, User(user.oauth_provider, user.external_id))

    async def transactions(self, user: User, *, limit: int, offset: int) -> TransactionPage:
        return await self._client.transaction_page(user, limit=limit, offset=offset)


@dataclass
class _Book:
    """One user's charges by idempotency key, oldest first."""

    charges: dict[str, Charge] = field(default_factory=dict)
    uses: int = 0


def _now() -> datetime:
    return datetime.now(UTC)


class SimpleCreditProvider:
    """Free uses per user in the memory of this process, without purchases. For development and tests."""

    def __init__(self, *, free_uses: int = 3, now: Callable[[], datetime] = _now) -> None:
        self._free_uses = free_uses
        self._now = now
        self._books: dict[tuple[str, str], _Book] = {}

    async def check(self, user: User) -> CreditStatus:
        book = self._book(user)
        left = self._free_uses - book.uses
        return CreditStatus(
            has_credit=left > 0,
            credits_remaining=0,
            free_uses_remaining=left,
            daily_free_uses_remaining=0,
            daily_free_uses_limit=0,
            total_uses=book.uses,
            plan_name="free",
            reason=None if left > 0 else "No free uses or credits remaining",
            purchase_required=False,
            purchase_price_minor=None,
            purchase_uses=None,
        )

    @asynccontextmanager
    async def gate(
        self,
        user: User,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
    ) -> AsyncIterator[Passage]:
        key, passage = charge_key(interaction_id), Passage(await self.check(user), amount_minor)
        if key not in self._book(user).charges:
            _admit(passage.status, amount_minor)
        yield passage
        book = self._books.setdefault((user.oauth_provider, user.external_id), _Book())
        if key in book.charges:
            passage.charge = book.charges[key].model_copy(update={"replayed": True})
            return
        _admit(await self.check(user), passage.amount_minor)
        book.uses += credits_for(passage.amount_minor)
        passage.charge = book.charges[key] = Charge(
            charge_id=uuid.uuid4(),
            account_id=uuid.uuid5(uuid.NAMESPACE_URL, f"{user.oauth_provider} {user.external_id}"),
            amount_minor=passage.amount_minor,
            currency="USD",
            balance_after=0,
            created_at=self._now(),
            description="Agent interaction" if description is None else description,
            metadata=ChargeMetadata(**(metadata or {})),
        )

    async def packs(self, user: User) -> list[Pack]:
        return []

    async def create_purchase(self, user: User, *, return_url: str | None = None, pack: str | None = None) -> Purchase:
        raise BillingNotEnabled

    async def purchase_status(self, user: User, payment_id: str) -> PurchaseStatus:
        raise BillingNotEnabled

    async def transactions(self, user: User, *, limit: int, offset: int) -> TransactionPage:
        charges = list(self._book(user).charges.values())[::-1]
        page = [_as_transaction(charge) for charge in charges[offset : offset + limit]]
        return TransactionPage(transactions=page, total_count=len(charges), has_more=offset + len(page) < len(charges))

    def _book(self, user: User) -> _Book:
        """Return the user's book for reading; an empty one is not stored."""
        return self._books.get((user.oauth_provider, user.external_id)) or _Book()


def _admit(status: CreditStatus, amount_minor: int) -> None:
    """Raise NoCredit if the balance does not cover the amount."""
    error = refusal(status, amount_minor)
    if error is not None:
        raise error


def _as_transaction(charge: Charge) -> Transaction:
    return Transaction(
        transaction_id=charge.charge_id,
        type="charge",
        amount_minor=-charge.amount_minor,
        currency=charge.currency,
        description=charge.description,
        created_at=charge.created_at,
        balance_after=charge.balance_after,
        transaction_type=None,
        external_transaction_id=None,
        metadata=charge.metadata,
    )
