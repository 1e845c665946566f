"""Wire format of Z-Billing's accounts and credits. Cents are minor units of the account's currency."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, Field

from app.accounts.schemas import UserFields
from app.currencies import info_of
from app.http.schemas import Key255, Reply, Text255, Timestamp
from app.ledger.money import decimal_text, minor_ceil, minor_floor
from app.metering.usage_schemas import Balance, Integer
from app.neighbours.movements import Described
from app.wallet.money_credits import MoneyCredit

TYPES = {
    "usage": "usage",
    "purchase": "purchase",
    "dispute_reinstatement": "purchase",
    "correction": "refund",
    "dispute_reversal": "refund",
    "refund": "refund",
    "refund_reversal": "refund",
}
"""By reason. Gifts, and their ends, are a bonus."""
TYPES_OF_GRANTS = {
    "signup": "signupgrant",
    "daily": "dailygrant",
    "referral": "referralbonus",
}
"""By the grant's source."""


def formatted(nanos: int, currency: str) -> str:
    """Return a balance as the clients show it: `$12345.67`, or `12345.67 EUR`. Rounded down."""
    digits = info_of(currency).digits
    units, fraction = divmod(minor_floor(nanos, currency), 10**digits)
    text = f"{units}.{fraction:0{digits}}" if digits else str(units)
    return f"${text}" if currency == "USD" else f"{text} {currency}"


class NewAccountBody(BaseModel):
    """`{}` is enough: the token names the user."""

    email: Text255 | None = Field(default=None, description="Not used: the address is the token's.")


class OwnAccountReply(Reply):
    """The account of the user who calls. Rounded fields never promise too much; the texts beside them are exact."""

    user_id: str
    balance_cents: int
    balance: Balance
    balance_formatted: str = Field(examples=["$12.34"])
    lifetime_purchased_cents: int
    lifetime_purchased: Balance
    lifetime_granted_cents: int
    lifetime_granted: Balance
    lifetime_used_cents: int
    lifetime_used: Balance
    debt_cents: int
    debt: Balance = Field(description="Used and not paid: the next purchase pays it first.")
    currency: str
    plan: str
    status: str
    auto_refill_enabled: bool
    created_at: Timestamp

    @classmethod
    def of(cls, user_id: str, state: Mapping[str, Any], spendable_nanos: int) -> Self:
        currency = state["currency"]
        purchased, granted, used = (state[f"money_{name}_nanos"] for name in ("purchased", "granted", "used"))
        return cls(
            user_id=user_id,
            balance_cents=minor_floor(spendable_nanos, currency),
            balance=decimal_text(spendable_nanos),
            balance_formatted=formatted(spendable_nanos, currency),
            lifetime_purchased_cents=minor_floor(purchased, currency),
            lifetime_purchased=decimal_text(purchased),
            lifetime_granted_cents=minor_floor(granted, currency),
            lifetime_granted=decimal_text(granted),
            lifetime_used_cents=minor_ceil(used, currency),
            lifetime_used=decimal_text(used),
            debt_cents=minor_ceil(state["money_debt_nanos"], currency),
            debt=decimal_text(state["money_debt_nanos"]),
            currency=currency,
            plan=state["plan_name"],
            status=state["status"],
            auto_refill_enabled=state["refill_below_nanos"] is not None,
            created_at=state["created_at"],
        )


class AddCreditsBody(UserFields):
    amount_cents: Integer = Field(description="Above 0, in minor units of the account's currency.")
    reason: Text255 = Field(description="The user sees it as the description.")
    idempotency_key: Key255 | None = None


class AddedCreditsReply(Reply):
    balance_cents: int
    balance: Balance
    transaction_id: str

    @classmethod
    def of(cls, credit: MoneyCredit) -> Self:
        return cls(
            balance_cents=minor_floor(credit.balance_after_nanos, credit.currency),
            balance=decimal_text(credit.balance_after_nanos),
            transaction_id=str(credit.money_credit_id),
        )


class DeletedReply(Reply):
    deleted: bool


class CreditsBalanceReply(Reply):
    balance_cents: int
    balance: Balance
    balance_formatted: str = Field(examples=["$12.34"])
    currency: str
    plan: str

    @classmethod
    def of(cls, state: Mapping[str, Any], spendable_nanos: int) -> Self:
        currency = state["currency"]
        return cls(
            balance_cents=minor_floor(spendable_nanos, currency),
            balance=decimal_text(spendable_nanos),
            balance_formatted=formatted(spendable_nanos, currency),
            currency=currency,
            plan=state["plan_name"],
        )


class CreditsTransaction(Reply):
    """A movement of money. The amount includes its change of a debt."""

    id: str
    amount_cents: int = Field(description="Negative for usage. Rounded down.")
    amount: Balance
    transaction_type: str = Field(examples=["usage", "purchase", "bonus"])
    balance_after_cents: int
    balance_after: Balance
    description: str
    created_at: Timestamp

    @classmethod
    def of(cls, described: Described) -> Self:
        movement = described.movement
        return cls(
            id=described.id,
            amount_cents=minor_floor(movement.amount_nanos, movement.currency),
            amount=decimal_text(movement.amount_nanos),
            transaction_type=type_of(described),
            balance_after_cents=minor_floor(movement.balance_after_nanos, movement.currency),
            balance_after=decimal_text(movement.balance_after_nanos),
            description=described.description,
            created_at=described.at,
        )


def type_of(described: Described) -> str:
    """Return Z-Billing's word: lower case, without underscores."""
    movement = described.movement
    if movement.reason == "purchase" and movement.grant_category == "subscription":
        return "subscriptiongrant"
    if movement.reason == "grant_given":
        by_source = TYPES_OF_GRANTS.get(movement.grant_source or "")
        return by_source or ("subscriptiongrant" if movement.grant_category == "subscription" else "bonus")
    if described.is_refill:
        return "autorefill"
    return TYPES.get(movement.reason, "bonus")


class CreditsTransactionsReply(Reply):
    """Newest first."""

    transactions: list[CreditsTransaction]
    has_more: bool

    @classmethod
    def of(cls, found: Sequence[Described], limit: int) -> Self:
        """`found` contains one more than the page, if there is one."""
        shown = [CreditsTransaction.of(described) for described in found[:limit]]
        return cls(transactions=shown, has_more=len(found) > limit)
