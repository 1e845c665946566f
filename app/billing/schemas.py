"""Wire format of billing. Requests are parsed once into validated values. Replies are exact.

`*_minor` amounts are hundredths of a credit. Unknown request fields are ignored. Text is bounded and contains no NUL,
which PostgreSQL cannot store.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
)

from app.accounts.schemas import IdentityFields
from app.auth.caller import Actor, DoubleCharges
from app.billing import descriptions
from app.billing.posting import Charge, ChargeRequest, Credit
from app.billing.status import CreditStatus
from app.http.schemas import ErrorReply, Key255, Label, Reply, RunId, Timestamp, _no_nul
from app.ledger.amounts import AmountMinor, GrantMinor, UpperCurrency
from app.ledger.pools import MINOR_PER_CREDIT
from app.refusals.schemas import RefusalReply


class CheckContext(BaseModel):
    agent_id: Label | None = None
    channel_id: Label | None = None
    request_id: Label | None = None


class CheckBody(IdentityFields):
    context: CheckContext | None = None


class CheckReply(Reply):
    has_credit: bool
    credits_remaining: int = Field(description="Paid credits, and grants that have not expired.")
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
        is_covered = active and status.spendable > 0
        has_credit = is_covered and status.refusal is None
        purchase_required = active and not is_covered
        offered = status.pack if purchase_required else None
        reason = status.refusal if is_covered else "No free uses or credits remaining"
        if not active:
            reason = f"Account {status.status}"
        return cls(
            has_credit=has_credit,
            credits_remaining=status.paid + status.grants,
            free_uses_remaining=status.free if active else 0,
            daily_free_uses_remaining=status.daily_free if active else 0,
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

    @classmethod
    def stored(cls, details: Mapping[str, Any]) -> Self:
        """Return the valid part of a stored charge's metadata: earlier versions took over a hold's as it was."""
        try:
            return cls.model_validate(details)
        except ValidationError as error:
            wrong = {found["loc"][0] for found in error.errors(include_url=False, include_input=False)}
            return cls.model_validate({name: value for name, value in details.items() if name not in wrong})


class ChargeBody(IdentityFields):
    amount_minor: AmountMinor
    currency: UpperCurrency | None = Field(
        default=None, description="Must be the account's currency, which is the default."
    )
    description: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_no_nul)] | None = None
    idempotency_key: Key255 | None = None
    run_id: RunId | None = None
    metadata: ChargeMetadata | None = None

    def request(
        self,
        account_id: UUID,
        actor: Actor,
        at: datetime,
        idempotency_key: str | None,
        double_charges: DoubleCharges = "ignore",
    ) -> ChargeRequest:
        return ChargeRequest(
            account_id=account_id,
            amount_minor=self.amount_minor,
            currency=self.currency,
            actor=actor,
            idempotency_key=idempotency_key,
            description=self.description,
            details=self.metadata.model_dump(exclude_none=True) if self.metadata else {},
            run_id=self.run_id,
            double_charges=double_charges,
            at=at,
        )


class ChargeReply(Reply):
    charge_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int = Field(description="Paid credits and live grants after the charge, in hundredths.")
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
            balance_after=charge.balance_after * MINOR_PER_CREDIT,
            created_at=charge.created_at,
            description=descriptions.of_charge(charge.description),
            metadata=ChargeMetadata.stored(charge.details),
            **error,
        )


CreditType = Literal["purchase", "grant", "refund", "adjustment", "bonus"]


class CreditBody(IdentityFields):
    amount_minor: Annotated[GrantMinor, Field(ge=MINOR_PER_CREDIT)]
    currency: UpperCurrency | None = Field(
        default=None, description="Must be the account's currency, which is the default."
    )
    description: Annotated[str, StringConstraints(max_length=1000), AfterValidator(_no_nul)] | None = None
    transaction_type: CreditType
    external_transaction_id: Key255 | None = None
    idempotency_key: Key255 | None = None


class CreditReply(Reply):
    credit_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int = Field(description="Paid credits and live grants after this credit, in hundredths.")
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
            balance_after=credit.balance_after * MINOR_PER_CREDIT,
            transaction_type=credit.transaction_type,
            external_transaction_id=credit.external_transaction_id,
            description=descriptions.of_credit(credit.description, credit.transaction_type, credit.credits),
            created_at=credit.created_at,
            **error,
        )


class Transaction(Reply):
    transaction_id: UUID
    type: Literal["charge", "credit"]
    amount_minor: int = Field(description="Hundredths of a credit; negative for charges and for credits taken back.")
    currency: str
    description: str = Field(description="Never null: a charge or credit without a description has a default.")
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
            balance_after=row.balance_after * MINOR_PER_CREDIT,
            transaction_type=row.transaction_type,
            external_transaction_id=row.external_transaction_id,
            metadata=ChargeMetadata.stored(row.details) if charge else None,
        )


class TransactionsReply(Reply):
    transactions: list[Transaction]
    total_count: int
    has_more: bool


class InsufficientCreditsReply(RefusalReply):
    """402: the account cannot pay. Nothing was spent."""

    # The figures of `InsufficientCredits` (errors.py), and the attributes of the SDK's `InsufficientCredits`.

    balance_minor: int = Field(description="Credits that this operation can spend, in hundredths.")
    required_minor: int = Field(description="The operation's cost, in hundredths of a credit.")
    shortfall_minor: int = Field(description="`required_minor` minus `balance_minor`.")
    max_affordable_minor: int = Field(
        description="The largest amount that this operation could spend now. 0 if its price is fixed."
    )


class ReplayedCharge(ChargeReply, ErrorReply):
    """409: the charge exists already. Clients treat it as paid."""


class ReplayedCredit(CreditReply, ErrorReply):
    """409: the credit exists already."""
