"""The wire format of billing. Requests are parsed once into values that cannot be wrong; replies are exact.

`*_minor` amounts are hundredths of a credit. Unknown request fields are ignored; text is bounded and free of NUL, which
PostgreSQL cannot store.
"""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
)

from app.auth.caller import Caller
from app.billing import descriptions
from app.billing.accounts import Identity, Profile
from app.billing.errors import IdentityRequired
from app.billing.pools import MINOR_PER_CREDIT
from app.billing.posting import Charge, Credit
from app.billing.service import CreditStatus
from app.http.schemas import MAX_INT64, ErrorReply, Key255, Label, Reply, Text255, Timestamp, _no_nul
from app.settings import Currency

OAuthProvider = Annotated[
    str,
    StringConstraints(pattern=r"^oauth:[^\x00]+$", max_length=255),
    Field(examples=["oauth:google"], description="`oauth:` and the provider's name; any provider."),
]
AmountMinor = Annotated[int, Field(strict=True, ge=1, le=MAX_INT64, description="Hundredths of a credit; rounded up.")]
GrantMinor = Annotated[
    int,
    Field(
        strict=True, le=MAX_INT64, multiple_of=MINOR_PER_CREDIT, description="Hundredths of a credit: whole credits."
    ),
]
UpperCurrency = Annotated[Currency, BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)]


class ProfileFields(BaseModel):
    """Attributes of the person. null means "not given" and changes nothing.

    With a user's token only the marketing fields count; the e-mail address and the name are those of the token.
    """

    wa_id: Label | None = None
    tenant_id: Label | None = None
    customer_email: Text255 | None = None
    display_name: Text255 | None = None
    user_role: Text255 | None = None
    agent_id: Label | None = None
    marketing_opt_in: bool | None = Field(default=None, description="false withdraws an earlier consent.")
    marketing_opt_in_source: Text255 | None = None

    def profile(self, caller: Caller) -> Profile:
        """The attributes that the caller may set. Of its own user, a token proves no others than those it contains."""
        given = Profile(**{name: getattr(self, name) for name in Profile.__slots__})
        if caller.user is None:
            return given
        return Profile(
            customer_email=caller.user.email,
            display_name=caller.user.display_name,
            marketing_opt_in=given.marketing_opt_in,
            marketing_opt_in_source=given.marketing_opt_in_source,
        )


class IdentityFields(ProfileFields):
    """Who pays. Absent only when the caller is an end user, whose token says it."""

    oauth_provider: OAuthProvider | None = None
    external_id: Key255 | None = Field(default=None, examples=["user@example.com"])

    def identity(self, caller: Caller) -> Identity:
        return identity_of(caller, self.oauth_provider, self.external_id)


def identity_of(caller: Caller, oauth_provider: str | None, external_id: str | None) -> Identity:
    """The token's identity, if the caller is an end user; else the request's. Raises IdentityRequired."""
    if caller.user is not None:
        return Identity(caller.environment, caller.user.oauth_provider, caller.user.external_id)
    if oauth_provider is None or external_id is None:
        raise IdentityRequired("oauth_provider" if oauth_provider is None else "external_id")
    return Identity(caller.environment, oauth_provider, external_id)


class CheckContext(BaseModel):
    agent_id: Label | None = None
    channel_id: Label | None = None
    request_id: Label | None = None


class CheckBody(IdentityFields):
    context: CheckContext | None = None


class CheckReply(Reply):
    has_credit: bool
    credits_remaining: int = Field(description="Paid credits.")
    free_uses_remaining: int
    daily_free_uses_remaining: int
    daily_free_uses_limit: int
    total_uses: int
    plan_name: str
    reason: str | None
    purchase_required: bool
    purchase_price_minor: int | None = Field(description="Minor units of the currency (500 = $5.00).")
    purchase_uses: int | None

    @classmethod
    def of(cls, status: CreditStatus) -> Self:
        active = status.status == "active"
        has_credit = active and status.pools.total > 0
        purchase_required = active and not has_credit
        offered = status.pack if purchase_required else None
        reason = None if has_credit else "No free uses or credits remaining" if active else f"Account {status.status}"
        return cls(
            has_credit=has_credit,
            credits_remaining=status.pools.paid,
            free_uses_remaining=status.pools.free if active else 0,
            daily_free_uses_remaining=status.pools.daily_free if active else 0,
            daily_free_uses_limit=status.daily_free_limit,
            total_uses=status.total_uses,
            plan_name=status.plan_name,
            reason=reason,
            purchase_required=purchase_required,
            purchase_price_minor=None if offered is None else offered.price_minor,
            purchase_uses=None if offered is None else offered.credits,
        )


class ChargeMetadata(BaseModel):
    message_id: Label | None = None
    agent_id: Label | None = None
    channel_id: Label | None = None
    request_id: Label | None = None


class ChargeBody(IdentityFields):
    amount_minor: AmountMinor
    currency: UpperCurrency | None = Field(default=None, description="The account's, which is also the default.")
    description: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_no_nul)] | None = None
    idempotency_key: Key255 | None = None
    metadata: ChargeMetadata | None = None


class ChargeReply(Reply):
    charge_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int = Field(description="Paid credits after the charge, in hundredths.")
    created_at: Timestamp
    description: str = Field(description=f"`{descriptions.CHARGE}` if none was given.")
    metadata: ChargeMetadata

    @classmethod
    def of(cls, charge: Charge, **error: object) -> Self:
        return cls(
            charge_id=charge.charge_id,
            account_id=charge.account_id,
            amount_minor=charge.amount_minor,
            currency=charge.currency,
            balance_after=charge.paid_after * MINOR_PER_CREDIT,
            created_at=charge.created_at,
            description=descriptions.of_charge(charge.description),
            metadata=ChargeMetadata(**charge.details),
            **error,
        )


CreditType = Literal["purchase", "grant", "refund", "adjustment", "bonus"]


class CreditBody(IdentityFields):
    amount_minor: Annotated[GrantMinor, Field(ge=MINOR_PER_CREDIT)]
    currency: UpperCurrency | None = Field(default=None, description="The account's, which is also the default.")
    description: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_no_nul)] | None = None
    transaction_type: CreditType
    external_transaction_id: Key255 | None = None
    idempotency_key: Key255 | None = None


class CreditReply(Reply):
    credit_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int = Field(description="Paid credits after it, in hundredths.")
    transaction_type: str
    external_transaction_id: str | None
    description: str = Field(description="Such as `Grant of 20 credits` if none was given.")
    created_at: Timestamp

    @classmethod
    def of(cls, credit: Credit, **error: object) -> Self:
        return cls(
            credit_id=credit.credit_id,
            account_id=credit.account_id,
            amount_minor=credit.credits * MINOR_PER_CREDIT,
            currency=credit.currency,
            balance_after=credit.paid_after * MINOR_PER_CREDIT,
            transaction_type=credit.transaction_type,
            external_transaction_id=credit.external_transaction_id,
            description=descriptions.of_credit(credit.description, credit.transaction_type, credit.credits),
            created_at=credit.created_at,
            **error,
        )


class AccountBody(IdentityFields):
    initial_balance_minor: Annotated[GrantMinor, Field(ge=0)] | None = Field(
        default=None, description="Counts only when the account is created; above 0 it needs `billing:credit`."
    )
    currency: UpperCurrency | None = None
    plan_name: Key255 | None = None


class AccountReply(Reply):
    account_id: UUID
    oauth_provider: str | None
    external_id: str | None
    wa_id: str | None
    tenant_id: str | None
    customer_email: str | None
    display_name: str | None
    balance_minor: int
    paid_credits: int
    free_uses_remaining: int
    total_uses: int
    currency: str
    plan_name: str
    status: Literal["active", "suspended", "closed"]
    marketing_opt_in: bool
    marketing_opt_in_at: Timestamp | None
    marketing_opt_in_source: str | None
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, account: dict[str, Any]) -> Self:
        return cls(
            **{
                "wa_id": None,
                "tenant_id": None,
                "customer_email": None,
                "display_name": None,
                "marketing_opt_in_at": None,
                "marketing_opt_in_source": None,
                **account,
                "marketing_opt_in": account.get("marketing_opt_in") or False,
                "balance_minor": account["paid"] * MINOR_PER_CREDIT,
                "paid_credits": account["paid"],
                "free_uses_remaining": account["free"],
            }
        )


class Transaction(Reply):
    transaction_id: UUID
    type: Literal["charge", "credit"]
    amount_minor: int = Field(description="Hundredths of a credit; negative for charges and for credits taken back.")
    currency: str
    description: str = Field(description="Never null: a default stands in for one that was not given.")
    created_at: Timestamp
    balance_after: int
    transaction_type: str | None
    external_transaction_id: str | None
    metadata: ChargeMetadata | None

    @classmethod
    def of(cls, row: Any) -> Self:
        charge = row.type == "charge"
        return cls(
            transaction_id=row.transaction_id,
            type=row.type,
            amount_minor=-row.amount_minor if charge else row.cost * MINOR_PER_CREDIT,
            currency=row.currency,
            description=(
                descriptions.of_charge(row.description)
                if charge
                else descriptions.of_credit(row.description, row.transaction_type, row.cost)
            ),
            created_at=row.created_at,
            balance_after=row.paid_after * MINOR_PER_CREDIT,
            transaction_type=row.transaction_type,
            external_transaction_id=row.external_transaction_id,
            metadata=ChargeMetadata.model_validate(row.details) if charge else None,
        )


class TransactionsReply(Reply):
    transactions: list[Transaction]
    total_count: int
    has_more: bool


class InsufficientCreditsReply(ErrorReply):
    """402: the account cannot pay. Nothing was spent."""

    balance_minor: int = Field(description="Credits that this operation can draw on, in hundredths.")
    required_minor: int = Field(description="What it costs, in hundredths of a credit.")
    shortfall_minor: int = Field(description="`required_minor` less `balance_minor`.")
    max_affordable_minor: int = Field(
        description="The largest amount that would be paid now. 0 where the price is fixed."
    )


class ReplayedCharge(ChargeReply, ErrorReply):
    """409: the charge exists already. The client counts it as paid."""


class ReplayedCredit(CreditReply, ErrorReply):
    """409: the credit exists already."""
