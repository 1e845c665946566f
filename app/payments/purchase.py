"""Purchases as typed values: one frozen dataclass for each row shape that the package's code reads."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Self
from uuid import UUID

from app.auth.caller import CallerKind, Environment
from app.currencies import info_of
from app.ledger.money import minor_floor
from app.ledger.pools import CREDIT
from app.payments.discounts import percent_text
from app.payments.facts import Provider, PurchaseStatus, TakenBack

MONEY = "Money"
"""The pack of a purchase of money. Names of configured packs begin with a small letter."""
REFILL = "Refill"
"""The pack of a purchase of money that the service makes with a saved card (ADR 43)."""


@dataclass(frozen=True, slots=True)
class PurchaseKey:
    """The primary key of a purchase."""

    account_id: UUID
    purchase_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One sale of a pack of credits or of money, as its row stores it. Prices are minor units of a currency.

    `unit` is `credit`, or the currency of the money that is sold. Code for both units uses `sold`, `taken_back` and
    `with_taken_back`.

    The account's lock guards the row. Code under the lock derives the next state with `dataclasses.replace` and stores
    it with `queries.update_purchase`.
    """

    account_id: UUID
    purchase_id: UUID
    environment: Environment
    pack: str
    """`MONEY` or `REFILL` for a purchase of money."""
    unit: str = CREDIT
    credits: int
    """0 for a purchase of money."""
    money_nanos: int = 0
    """The money that the account receives. The price can be lower."""
    amount_minor: int
    """The price."""
    currency: str
    caller_kind: CallerKind | None
    """None: written by a version that did not store it. Such a purchase matches every kind of caller."""
    idempotency_key: str | None
    discount_percent: Decimal = Decimal(0)
    """The plan's discount on the price of money, as it was at the opening."""
    buyer: str | None = None
    """The user's id, as the provider's page gets it. None: the account's id instead."""
    success_url: str | None = None
    cancel_url: str | None = None
    """The addresses to which the provider's page returns. Part of the request, so that a repeat of it is equal."""
    provider: Provider
    checkout_session_id: str | None = None
    """None: not opened as a page of the provider, or not noted."""
    provider_payment_id: str | None = None
    """None: not opened at the provider yet, or opened and not noted. The column is `payment_intent_id` (ADR 25).

    The payment of a checkout session begins when its buyer first tries to pay.
    """
    attempt: int = 1
    """Part of the idempotency key at the provider; grows when the provider fails."""
    status: PurchaseStatus = "pending"
    status_at: datetime
    next_action: str | None = None
    received_minor: int | None = None
    """None: not paid."""
    received_currency: str | None = None
    review_reason: str | None = None
    card_fingerprint: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    receipt_url: str | None = None
    credit_id: UUID | None = None
    """The credit that the purchase became, of credits or of money. None: it is not booked."""
    refunded_minor: int = 0
    refunds_reported_minor: int | None = None
    credits_refunded: int = 0
    credits_disputed: int = 0
    money_refunded_nanos: int = 0
    money_disputed_nanos: int = 0
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> PurchaseKey:
        return PurchaseKey(self.account_id, self.purchase_id)

    @property
    def is_booked(self) -> bool:
        """Whether the purchase's credits or its money are in the ledger."""
        return self.credit_id is not None

    @property
    def is_money(self) -> bool:
        return self.unit != CREDIT

    @property
    def is_refill(self) -> bool:
        """Whether the service pays it with a saved card, without its buyer. Only app/refills opens such a payment."""
        return self.pack == REFILL

    @property
    def is_opened(self) -> bool:
        """Whether the purchase has a payment, or the page that takes it, at the provider."""
        return self.provider_payment_id is not None or self.checkout_session_id is not None

    @property
    def can_be_opened(self) -> bool:
        """Whether the request to the provider is complete. The erasure of a person deletes parts of it."""
        return not self.is_money or self.success_url is not None

    @property
    def sold(self) -> int:
        """The amount that the account receives, in `unit`: credits, or nanos."""
        return self.money_nanos if self.is_money else self.credits

    @property
    def money_text(self) -> str:
        """The money that it sells, for people: "25.00 USD"."""
        return info_of(self.unit).format(minor_floor(self.money_nanos, self.unit))

    @property
    def discount_text(self) -> str:
        """The discount, to follow another text: ", 10 % off"; empty without one."""
        return f", {percent_text(self.discount_percent)} % off" if self.discount_percent else ""

    @property
    def taken_back(self) -> TakenBack:
        """The part of `sold` that refunds and disputes have taken back."""
        if self.is_money:
            return TakenBack(self.money_refunded_nanos, self.money_disputed_nanos)
        return TakenBack(self.credits_refunded, self.credits_disputed)

    def with_taken_back(self, taken: TakenBack) -> Self:
        if self.is_money:
            return replace(self, money_refunded_nanos=taken.refunded, money_disputed_nanos=taken.disputed)
        return replace(self, credits_refunded=taken.refunded, credits_disputed=taken.disputed)

    @property
    def is_kept(self) -> bool:
        """Whether some of what it sold is booked, and not taken back by refunds or disputes."""
        taken = self.taken_back
        return self.is_booked and taken.refunded + taken.disputed < self.sold

    @property
    def as_job(self) -> dict[str, str]:
        """The arguments of a job about this purchase."""
        return {"account_id": str(self.account_id), "purchase_id": str(self.purchase_id)}
