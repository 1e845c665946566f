"""`/api/billing/payment-methods`, wire-compatible with SecondLayer: the saved cards of the user who calls."""

from collections.abc import Sequence
from typing import Any, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import require_person
from app.clock import Now
from app.http.schemas import NAMED_ERRORS, NamedErrorReply, Reply, Timestamp
from app.refills.dependencies import Cards
from app.refills.records import Card

router = APIRouter(
    prefix="/api/billing/payment-methods", tags=["SecondLayer"], responses=NAMED_ERRORS, route_class=GuardedRoute
)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": NamedErrorReply}}


class PaymentMethod(Reply):
    id: UUID
    provider: str = Field(examples=["stripe"])
    card_last4: str | None = Field(serialization_alias="cardLast4")
    card_brand: str | None = Field(serialization_alias="cardBrand")
    card_exp_month: int | None = Field(serialization_alias="cardExpMonth")
    card_exp_year: int | None = Field(serialization_alias="cardExpYear")
    is_primary: bool = Field(serialization_alias="isPrimary")
    created_at: Timestamp = Field(serialization_alias="createdAt")

    @classmethod
    def of(cls, card: Card) -> Self:
        return cls(
            id=card.card_id,
            provider=card.provider,
            card_last4=card.last4,
            card_brand=card.brand,
            card_exp_month=card.expiry_month,
            card_exp_year=card.expiry_year,
            is_primary=card.is_primary,
            created_at=card.created_at,
        )


class PaymentMethodsReply(Reply):
    """Newest first."""

    payment_methods: list[PaymentMethod] = Field(serialization_alias="paymentMethods")

    @classmethod
    def of(cls, cards: Sequence[Card]) -> Self:
        return cls(payment_methods=[PaymentMethod.of(card) for card in cards])


class PaymentMethodChangedReply(Reply):
    success: bool = True
    message: str


@router.get("", responses=NOT_FOUND)
async def list_payment_methods(caller: EndUser, accounts: Accounts, cards: Cards, now: Now) -> PaymentMethodsReply:
    """List the saved cards of the user who calls, as `/v1/credits/cards` does."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return PaymentMethodsReply.of(await cards.list_of(account_id, now, refresh=True))


@router.delete("/{card_id}", responses=NOT_FOUND)
async def remove_payment_method(
    card_id: UUID, caller: EndUser, accounts: Accounts, cards: Cards, now: Now
) -> PaymentMethodChangedReply:
    """Remove a saved card, here and at Stripe. Needs a person: 403 `person_required`."""
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await cards.remove(account_id, card_id, now)
    return PaymentMethodChangedReply(message="Payment method removed")


@router.put("/{card_id}/primary", responses=NOT_FOUND)
async def make_payment_method_primary(
    card_id: UUID, caller: EndUser, accounts: Accounts, cards: Cards, now: Now
) -> PaymentMethodChangedReply:
    """Pay refills with this card from now on. Needs a person: 403 `person_required`."""
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await cards.make_primary(account_id, card_id, now)
    return PaymentMethodChangedReply(message="Primary payment method updated")
