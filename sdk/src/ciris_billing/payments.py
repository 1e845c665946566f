"""Money that users buy, automatic refills, saved cards, and one-time grants.

Cents are minor units of the account's currency. Exact amounts are beside them as `Decimal`, in the major unit.
"""

from datetime import datetime
from uuid import UUID

from ciris_billing.models import Reply
from ciris_billing.usage import Amount


class MoneyPage(Reply):
    """The provider's page on which the user pays. Send the browser to `checkout_url`; it is open for 24 hours."""

    checkout_url: str
    session_id: str


class Payment(Reply):
    """A payment for money or for a pack of credits."""

    id: str
    amount_cents: int
    """The price, after the plan's discount."""
    amount_formatted: str
    currency: str
    """In small letters, as Stripe writes it."""
    status: str
    """In Stripe's words."""
    description: str | None
    created_at: datetime
    refunded_cents: int
    refunded_formatted: str
    discount_percent: str
    bought: Amount | None
    """The money that the account got; None for a pack."""
    credits: int | None
    """The credits that the account got; None for money."""
    payment_id: str | None
    """Stripe's id; None before the user tries to pay."""
    receipt_url: str | None


class PaymentPage(Reply):
    """Newest first."""

    payments: list[Payment]
    has_more: bool
    next_cursor: UUID | None
    """Pass it to `payment_page` for the next page."""


class SavedCard(Reply):
    card_id: UUID
    brand: str | None
    last4: str | None
    expiry_month: int | None
    expiry_year: int | None
    is_primary: bool
    """It pays refills."""
    created_at: datetime


class SavedCards(Reply):
    """Newest first."""

    cards: list[SavedCard]


class CardPage(Reply):
    """The provider's page that saves a card. Send the browser to `url`; it is open for 24 hours."""

    url: str


class CardRemoved(Reply):
    removed: bool


class AutoRefill(Reply):
    """The settings of automatic refills, and what they lead to now."""

    enabled: bool
    trigger_below_cents: int
    refill_amount_cents: int
    monthly_cap_cents: int
    """The smaller of the user's and the operator's."""
    spent_this_month_cents: int
    state: str
    """`off`, `waiting_for_card`, `out_of_bounds`, `authentication_required`, `in_flight`, `backing_off` or `active`."""
    off_reason: str | None
    """Why the service switched refills off: `declined`, `disputed`, `suspended` or `closed`."""
    last_decline: str | None
    next_attempt_at: datetime | None
    action_url: str | None
    """The page on which the user authenticates the payment."""
    card: SavedCard | None
    """The primary card."""
    consent_text: str
    """Show it to the user, and pass it to `save_card`."""


class AutoRefillReply(Reply):
    auto_refill: AutoRefill


class OneTimeGrant(Reply):
    """Whether this call gave the grant; `reason` says why not."""

    granted: bool
    amount_cents: int | None = None
    amount: Amount | None = None
    reason: str | None = None
    """`already_granted`, `already_granted_today` or `not_available`."""
    balance_cents: int
    balance: Amount


class ReferralGrant(Reply):
    """Whether both users have their grants with this call; `reason` says why not."""

    granted: bool
    reason: str | None = None
    """`pending`: the first payment of the invited user pays the referral. Or `already_granted`, `already_referred` or
    `not_available`."""
    invitee_amount_cents: int | None = None
    invitee_amount: Amount | None = None
    inviter_amount_cents: int | None = None
    inviter_amount: Amount | None = None
    invitee_balance_cents: int
    invitee_balance: Amount
    inviter_balance_cents: int
    inviter_balance: Amount
