"""Wire format of refills and saved cards. Cents are minor units of the account's currency."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, WithJsonSchema

from app.http.schemas import Reply, Timestamp
from app.ledger.money import MAX_NANOS, decimal_text, minor_floor, nanos_of_minor
from app.ledger.refill_queries import OffReason, Settings
from app.refills.errors import RefillOutOfBounds
from app.refills.records import Card, Refill
from app.refills.service import Overview, RequestedSettings

DEFAULT_TRIGGER_CENTS, DEFAULT_AMOUNT_CENTS = 500, 2500
MAX_URL_CHARS = 2048
Cents = Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 1})]
"""Checked by `requested`: a bad amount is 400 to Z-Billing's clients."""
Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
State = Literal[
    "off", "waiting_for_card", "out_of_bounds", "authentication_required", "in_flight", "backing_off", "active"
]


class AutoRefillBody(BaseModel):
    """An absent amount stays as it is; the first ones are 500, 2500 and the operator's monthly cap."""

    enabled: Annotated[bool, Field(strict=True)]
    trigger_below_cents: Cents | None = Field(default=None, description="A refill starts when less than this is left.")
    refill_amount_cents: Cents | None = Field(default=None, description="The exact amount of each refill.")
    monthly_cap_cents: Cents | None = Field(
        default=None, description="The most that refills cost in a calendar month. Default: the operator's."
    )

    def requested(self, stored: Settings | None, currency: str) -> RequestedSettings:
        """Return the settings in nanos, with those that stay. Raises RefillOutOfBounds."""
        trigger = nanos_of_minor(DEFAULT_TRIGGER_CENTS, currency) if stored is None else stored.trigger_below_nanos
        amount = nanos_of_minor(DEFAULT_AMOUNT_CENTS, currency) if stored is None else stored.amount_nanos
        cap = None if stored is None else stored.monthly_cap_nanos
        return RequestedSettings(
            self.enabled,
            _nanos(self.trigger_below_cents, "trigger_below_cents", currency, trigger),
            _nanos(self.refill_amount_cents, "refill_amount_cents", currency, amount),
            cap if self.monthly_cap_cents is None else _nanos(self.monthly_cap_cents, "monthly_cap_cents", currency, 0),
        )


def _nanos(cents: object, field: str, currency: str, unchanged: int) -> int:
    if cents is None:
        return unchanged
    if type(cents) is not int or cents < 1:
        raise RefillOutOfBounds(field, "must be a whole number above 0")
    nanos = nanos_of_minor(cents, currency)
    if nanos > MAX_NANOS:
        raise RefillOutOfBounds(field, "is too large")
    return nanos


class CardReply(Reply):
    card_id: UUID
    brand: str | None = Field(examples=["visa"])
    last4: str | None = Field(examples=["4242"])
    expiry_month: int | None
    expiry_year: int | None
    is_primary: bool = Field(description="Refills are paid with it.")
    created_at: Timestamp

    @classmethod
    def of(cls, card: Card) -> Self:
        return cls(**{name: getattr(card, name) for name in cls.model_fields})


class AutoRefill(Reply):
    """Amounts are rounded down to cents, which they are whole numbers of."""

    enabled: bool
    trigger_below_cents: int
    refill_amount_cents: int
    monthly_cap_cents: int = Field(description="The smaller of the user's and the operator's.")
    spent_this_month_cents: int = Field(description="Of the cap, with a payment that is under way.")
    state: State = Field(
        description="`waiting_for_card`: enabled, and no card is saved. `out_of_bounds`: the operator's bounds have "
        "changed, so set other amounts. `authentication_required`: open `action_url`. `backing_off`: the last payment "
        "was declined."
    )
    off_reason: OffReason | None = Field(
        description="Why the service switched refills off: three payments in a row were `declined`, a payment was "
        "`disputed`, or the account was `suspended` or `closed`."
    )
    last_decline: str | None = Field(
        examples=["insufficient_funds"], description="Stripe's code of the last payment's decline, until one succeeds."
    )
    next_attempt_at: Timestamp | None = Field(
        description="The earliest time of the next refill after a decline, a cool-down or the month's cap."
    )
    action_url: str | None = Field(description="Stripe's page on which the user authenticates the payment.")
    card: CardReply | None = Field(description="The primary card.")
    consent_text: str = Field(description="The text to show to the user, and to send when a card is saved.")

    @classmethod
    def of(cls, found: Overview, settings: RequestedSettings, next_attempt_at: Any) -> Self:
        stored, bounds = found.settings, found.in_force.bounds
        cap = bounds.most_monthly if settings.monthly_cap_nanos is None else settings.monthly_cap_nanos
        return cls(
            enabled=found.is_enabled,
            trigger_below_cents=minor_floor(settings.trigger_below_nanos, found.currency),
            refill_amount_cents=minor_floor(settings.amount_nanos, found.currency),
            monthly_cap_cents=minor_floor(min(cap, bounds.most_monthly), found.currency),
            spent_this_month_cents=minor_floor(found.spent_this_month_nanos, found.currency),
            state=_state(found),
            off_reason=None if stored is None else stored.off_reason,
            last_decline=None if stored is None else stored.last_decline,
            next_attempt_at=next_attempt_at,
            action_url=None if found.in_flight is None else found.in_flight.action_url,
            card=None if found.card is None else CardReply.of(found.card),
            consent_text=found.in_force.consent_text,
        )


def _state(found: Overview) -> State:
    if found.in_flight is not None:
        return "authentication_required" if found.in_flight.status == "action_required" else "in_flight"
    if not found.is_enabled or found.settings is None:
        return "off"
    if found.card is None:
        return "waiting_for_card"
    if found.problem is not None:
        return "out_of_bounds"
    return "backing_off" if found.settings.declines else "active"


class AutoRefillReply(Reply):
    auto_refill: AutoRefill

    @classmethod
    def of(cls, found: Overview, now: Any) -> Self:
        settings = AutoRefillBody(enabled=found.is_enabled).requested(found.settings, found.currency)
        check_at = None if found.settings is None else found.settings.check_at
        waits = check_at is not None and check_at > now and found.card is not None and found.problem is None
        later = check_at if waits else None
        return cls(auto_refill=AutoRefill.of(found, settings, later))


class SaveCardBody(BaseModel):
    consent: Annotated[str, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="The `consent_text` of `GET /v1/credits/auto-refill`, as the user saw and accepted it. It is "
        "stored with the time and the user's address."
    )
    success_url: Url | None = Field(
        default=None,
        description="Where Stripe's page returns to once the card is saved: an address of FRONTEND_URL or "
        "RETURN_URL_ORIGINS. Default: `/billing/success` of FRONTEND_URL.",
    )
    cancel_url: Url | None = Field(
        default=None, description="Where it returns to without a card. Default: `/billing/cancel` of FRONTEND_URL."
    )


class SaveCardReply(Reply):
    url: str = Field(description="Send the browser there. The page is open for 24 hours.")


class CardsReply(Reply):
    """Newest first."""

    cards: list[CardReply]

    @classmethod
    def of(cls, cards: Sequence[Card]) -> Self:
        return cls(cards=[CardReply.of(card) for card in cards])


class RemovedReply(Reply):
    removed: bool


class RefillReply(Reply):
    """A refill. Its payment is the purchase with the same id."""

    purchase_id: UUID
    card_id: UUID
    amount: str = Field(examples=["25.000000"])
    status: Literal["in_flight", "action_required", "paid", "declined", "canceled"]
    decline: str | None = Field(description="Stripe's code.")
    sent_at: Timestamp | None
    created_at: Timestamp
    finished_at: Timestamp | None

    @classmethod
    def of(cls, refill: Refill) -> Self:
        names = [name for name in cls.model_fields if name != "amount"]
        values = {name: getattr(refill, name) for name in names}
        return cls(**values, amount=decimal_text(refill.amount_nanos))
