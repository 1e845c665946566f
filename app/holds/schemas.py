"""Wire format of holds. Credits are in hundredths, as `amount_minor`; money is an exact decimal text, as `amount`."""

import json
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from app.accounts.schemas import UserFields
from app.billing.schemas import ChargeMetadata
from app.errors import InvalidRequest
from app.holds.ids import text_of
from app.holds.requests import Amount, Overage
from app.http.schemas import Key255, Label, Reply, Timestamp
from app.ledger.amounts import AmountMinor, UpperCurrency
from app.ledger.holds import Hold, HoldStatus, OnExpiry
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, cost_of
from app.metering.json_values import bounded_json
from app.setting_values import Slug
from app.wallet.schemas import PositiveMoney

DEFAULT_EXPIRY_S, MAX_EXPIRY_S = 900, 86_400
Seconds = Annotated[int, Field(strict=True, ge=1, le=MAX_EXPIRY_S)]
OutcomeWord = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class AmountFields(BaseModel):
    amount_minor: AmountMinor | None = Field(
        default=None, description="Of a hold of credits, in hundredths; rounded up to whole credits."
    )
    amount: PositiveMoney | None = Field(default=None, description="Of a hold of money, in the currency's major unit.")

    @model_validator(mode="after")
    def _has_one_amount(self) -> Self:
        if (self.amount_minor is None) == (self.amount is None):
            raise ValueError("give either amount_minor (credits) or amount (money)")
        return self

    def value(self) -> Amount:
        if self.amount_minor is not None:
            return Amount(cost_of(self.amount_minor), is_money=False)
        return Amount(self.amount or 0, is_money=True)


class HoldBody(UserFields, AmountFields):
    currency: UpperCurrency | None = Field(
        default=None, description="Must be the account's currency, which is the default."
    )
    expires_in_s: Seconds = Field(default=DEFAULT_EXPIRY_S, description="When a hold that is not settled expires.")
    on_expiry: OnExpiry = Field(
        default="release", description="Its cost then: nothing, the reported progress, or all of it."
    )
    product_type: Slug | None = Field(default=None, description="Its purpose, such as a product or a tool.")
    run_id: Label | None = None
    idempotency_key: Key255 | None = None
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Stored with the hold and its charge, up to 16 KiB. `agent_id`, `message_id`, `channel_id` and "
        "`request_id` are texts of up to 255 characters, as those of a charge; numbers become texts.",
    )

    def details(self) -> dict[str, Any]:
        """Return the metadata, with the names of a charge's metadata as texts, as charges have them.

        Raises InvalidRequest if it cannot be stored, or cannot be that of a charge.
        """
        if not self.metadata:
            return {}
        try:
            details = dict(json.loads(bounded_json("metadata", self.metadata)))
            labels = ChargeMetadata.model_validate(details).model_dump(exclude_none=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise InvalidRequest(f"metadata.{first['loc'][0]}: {first['msg']}", field="metadata") from None
        except ValueError as error:
            raise InvalidRequest(str(error), field="metadata") from None
        return {**details, **labels}

    def lifetime(self) -> timedelta:
        return timedelta(seconds=self.expires_in_s)


class CaptureBody(AmountFields):
    overage: Overage = Field(
        default="refuse",
        description="For an amount above the held one: answer 422, or charge the balance too as far as it suffices.",
    )


class ReleaseBody(BaseModel):
    outcome: OutcomeWord | None = Field(
        default=None, description="Why, for people to read.", examples=["provider_error", "client_abort", "refused"]
    )


class ExtendBody(BaseModel):
    expires_in_s: Seconds = Field(description="From now. A hold that expires later anyway stays as it is.")


class ReportBody(AmountFields):
    """The cost of the work so far, in all. The largest report counts, up to the held amount."""


class HoldReply(Reply):
    """A hold. Amounts of credits are in `*_minor`, those of money in the other fields; the others are null."""

    hold_id: str
    status: HoldStatus
    unit: str = Field(description="`credit`, or the currency of a hold of money.")
    amount_minor: int | None
    amount: str | None
    reported_minor: int | None
    reported: str | None
    captured_minor: int | None = Field(description="Spent of the held amount.")
    captured: str | None
    overage_minor: int | None = Field(description="Charged beyond the held amount, with `charge_what_fits`.")
    overage: str | None
    on_expiry: OnExpiry
    expires_at: Timestamp
    created_at: Timestamp
    settled_at: Timestamp | None
    outcome: str | None = Field(description="The reason of its release, from the caller.")
    charge_id: str | None = Field(description="The charge of captured credits.")
    transaction_id: str | None = Field(description="The usage event of captured money.")
    product_type: str | None
    run_id: str | None
    metadata: dict[str, Any]

    @classmethod
    def of(cls, hold: Hold) -> Self:
        is_credits = hold.unit == CREDIT
        spending = None if hold.spending_id is None else str(hold.spending_id)
        return cls(
            hold_id=text_of(hold.account_id, hold.hold_id),
            status=hold.status,
            unit=hold.unit,
            amount_minor=hold.amount * MINOR_PER_CREDIT if is_credits else None,
            amount=None if is_credits else decimal_text(hold.amount),
            reported_minor=hold.reported * MINOR_PER_CREDIT if is_credits else None,
            reported=None if is_credits else decimal_text(hold.reported),
            captured_minor=hold.captured * MINOR_PER_CREDIT if is_credits else None,
            captured=None if is_credits else decimal_text(hold.captured),
            overage_minor=hold.overage * MINOR_PER_CREDIT if is_credits else None,
            overage=None if is_credits else decimal_text(hold.overage),
            on_expiry=hold.on_expiry,
            expires_at=hold.expires_at,
            created_at=hold.created_at,
            settled_at=hold.settled_at,
            outcome=hold.outcome,
            charge_id=spending if is_credits else None,
            transaction_id=None if is_credits else spending,
            product_type=hold.product_type,
            run_id=hold.run_id,
            metadata=hold.details,
        )
