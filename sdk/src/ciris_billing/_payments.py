"""Operations for bought money, refills, saved cards and one-time grants."""

from decimal import Decimal
from typing import Any, Unpack
from uuid import UUID

from ciris_billing._calls import CallRunner, quoted
from ciris_billing._exchange import Call, Flow, as_model
from ciris_billing.models import User, UserFields, request_fields, without_none
from ciris_billing.payments import (
    AutoRefill,
    AutoRefillReply,
    CardPage,
    CardRemoved,
    MoneyPage,
    OneTimeGrant,
    PaymentPage,
    ReferralGrant,
    SavedCard,
    SavedCards,
)

REFILL, CARDS = "/v1/credits/auto-refill", "/v1/credits/cards"


class PaymentOperations(CallRunner):
    """Buy money and set refills, for clients with the user's token. Give one-time grants, for keys with
    `money:credit`."""

    def buy_money(
        self,
        *,
        amount_minor: int | None = None,
        amount_usd: Decimal | float | None = None,
        success_url: str | None = None,
        cancel_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Flow[MoneyPage]:
        """Begin to buy money, and return the provider's page. Pass minor units of the account's currency, or dollars.
        The account receives the amount; the plan's discount lowers the price. A repeat returns the same page while it
        is open.

        Raises InvalidRequest for an amount out of bounds, and NotFound for a user without an account."""
        body = {
            "amount_minor": amount_minor,
            "amount_usd": None if amount_usd is None else float(amount_usd),
            "success_url": success_url,
            "cancel_url": cancel_url,
            "idempotency_key": idempotency_key,
        }
        call = Call("buy_money", "POST", "/v1/credits/purchase", as_model(MoneyPage), without_none(body))
        return self.exchange.run(call)

    def payment_page(self, *, limit: int = 10, cursor: UUID | str | None = None) -> Flow[PaymentPage]:
        """Return a page of the user's payments, newest first; `limit` is at most 100."""
        query = without_none({"limit": limit, "cursor": cursor})
        return self.exchange.run(Call("payment_page", "GET", "/v1/payments", as_model(PaymentPage), query=query))

    def auto_refill(self) -> Flow[AutoRefill]:
        """Return the settings of the user's automatic refills, and their state."""
        call = Call("auto_refill", "GET", REFILL, as_model(AutoRefillReply))
        return (yield from self.exchange.run(call)).auto_refill

    def set_auto_refill(
        self,
        *,
        enabled: bool,
        trigger_below_cents: int | None = None,
        refill_amount_cents: int | None = None,
        monthly_cap_cents: int | None = None,
    ) -> Flow[AutoRefill]:
        """Set automatic refills: once less than an amount is left, the primary card pays exactly the refill amount. An
        absent amount stays as it is.

        Needs a token that only a person has (PermissionDenied `person_required`). Raises InvalidRequest for amounts
        outside of the operator's bounds (`refill_out_of_bounds`)."""
        body = {
            "enabled": enabled,
            "trigger_below_cents": trigger_below_cents,
            "refill_amount_cents": refill_amount_cents,
            "monthly_cap_cents": monthly_cap_cents,
        }
        call = Call("set_auto_refill", "POST", REFILL, as_model(AutoRefillReply), without_none(body))
        return (yield from self.exchange.run(call)).auto_refill

    def cards(self) -> Flow[list[SavedCard]]:
        """Return the user's saved cards, newest first."""
        return (yield from self.exchange.run(Call("cards", "GET", CARDS, as_model(SavedCards)))).cards

    def save_card(
        self, *, consent: str, success_url: str | None = None, cancel_url: str | None = None
    ) -> Flow[CardPage]:
        """Record the user's consent, and return the provider's page that saves a card. `consent` is the `consent_text`
        of `auto_refill`, as the user saw and accepted it.

        Needs a token that only a person has. Raises InvalidRequest for another text (`consent_required`)."""
        body = without_none({"consent": consent, "success_url": success_url, "cancel_url": cancel_url})
        return self.exchange.run(Call("save_card", "POST", CARDS, as_model(CardPage), body))

    def make_card_primary(self, card_id: UUID | str) -> Flow[SavedCard]:
        """Let this card pay refills. Needs a token that only a person has. Raises NotFound."""
        path = f"{CARDS}/{quoted(str(card_id))}/primary"
        return self.exchange.run(Call("make_card_primary", "PUT", path, as_model(SavedCard)))

    def remove_card(self, card_id: UUID | str) -> Flow[bool]:
        """Remove a saved card, here and at the provider. Needs a token that only a person has. Raises NotFound."""
        path = f"{CARDS}/{quoted(str(card_id))}"
        call = Call("remove_card", "DELETE", path, as_model(CardRemoved), repeatable=False)
        return (yield from self.exchange.run(call)).removed

    def signup_grant(
        self, user: User | None = None, *, referred_by: str | None = None, **user_fields: Unpack[UserFields]
    ) -> Flow[OneTimeGrant]:
        """Give the user the grant for signing up, once. Creates a missing account. `referred_by`: the `user_id` of the
        user who invited this one. After a lost answer the repeat says `already_granted`."""
        body = {**request_fields(user, user_fields), **without_none({"referred_by": referred_by})}
        return self.exchange.run(_grant("signup_grant", "signup-grant", body))

    def daily_grant(self, user: User | None = None, **user_fields: Unpack[UserFields]) -> Flow[OneTimeGrant]:
        """Give the user the day's grant, once per day. Creates a missing account."""
        return self.exchange.run(_grant("daily_grant", "daily-grant", request_fields(user, user_fields)))

    def referral_grant(self, *, inviter: User | str, invitee: User | str) -> Flow[ReferralGrant]:
        """Give both users the grant of a referral, once, after the invited user has settled a payment. Pass Users, or
        the `user_id`s at the API key's `identity_provider`. Creates missing accounts."""
        body = {**_named("inviter", inviter), **_named("invitee", invitee)}
        path = "/v1/credits/referral-grant"
        return self.exchange.run(Call("referral_grant", "POST", path, as_model(ReferralGrant), body))


def _grant(operation: str, name: str, body: dict[str, Any]) -> Call[OneTimeGrant]:
    return Call(operation, "POST", f"/v1/credits/{name}", as_model(OneTimeGrant), body)


def _named(role: str, user: User | str) -> dict[str, str]:
    if isinstance(user, str):
        return {f"{role}_user_id": user}
    return {f"{role}_oauth_provider": user.oauth_provider, f"{role}_external_id": user.external_id}
