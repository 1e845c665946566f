"""Wire format of grants. Credits are in hundredths, as `amount_minor`; money is an exact decimal text, as `amount`."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from app.accounts.schemas import UserFields
from app.errors import InvalidRequest
from app.http.schemas import ErrorReply, Key255, Reply, Timestamp
from app.ledger.amounts import GrantMinor, UpperCurrency
from app.ledger.lots import Category
from app.ledger.money import decimal_text, nanos_of_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, credits_of_grant
from app.timestamps import bounded
from app.wallet.service import Grant, GrantStatus, NewGrant


def _nanos(value: object) -> int:
    """Return the nanos of a positive decimal text. JSON numbers are refused: parsers turn them into floats."""
    if not isinstance(value, str):
        raise ValueError('must be a decimal number as text, such as "5.00"')
    nanos = nanos_of_text(value)
    if nanos <= 0:
        raise ValueError("must be greater than 0")
    return nanos


PositiveMoney = Annotated[
    int,
    BeforeValidator(_nanos),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,9})?$", "examples": ["5.00"]}),
]
"""Nanos, from an exact decimal text in major units."""


class GrantBody(UserFields):
    amount_minor: Annotated[GrantMinor, Field(ge=MINOR_PER_CREDIT)] | None = Field(
        default=None, description="A grant of credits, in hundredths: whole credits."
    )
    amount: PositiveMoney | None = Field(default=None, description="A grant of money, in major units of the currency.")
    currency: UpperCurrency | None = Field(
        default=None, description="Must be the account's currency, which is the default."
    )
    priority: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=50, description="Lower numbers pay first. Of equal ones, the grant that expires first."
    )
    category: Category = Field(default="promotional", description="`purchased`: it was paid for.")
    source: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.:-]{0,63}$")] = Field(
        default="api", description="Why it was given, such as `signup` or `plan_2026_12`. Not a person's name."
    )
    expires_at: Annotated[AwareDatetime, AfterValidator(bounded)] | None = Field(
        default=None, description="From this moment on it cannot pay. Must be in the future. Never, if absent."
    )
    idempotency_key: Key255 | None = None

    def grant(self) -> NewGrant:
        """Return the grant. Raise InvalidRequest unless exactly one amount is given."""
        if (self.amount_minor is None) == (self.amount is None):
            problem = "give either amount_minor (credits) or amount (money)"
            raise InvalidRequest(f"amount_minor: {problem}", field="amount_minor")
        credits = None if self.amount_minor is None else credits_of_grant(self.amount_minor)
        return NewGrant(
            amount=credits or self.amount or 0,
            money=credits is None,
            currency=self.currency,
            priority=self.priority,
            category=self.category,
            source=self.source,
            expires_at=self.expires_at,
        )


class GrantReply(Reply):
    grant_id: UUID
    account_id: UUID
    unit: str = Field(description="`credit`, or the currency of a grant of money.")
    amount_minor: int | None = Field(description="Credits given, in hundredths. null for money.")
    remaining_minor: int | None = Field(description="Credits that it can still pay. null for money.")
    amount: str | None = Field(description="Money given, exact. null for credits.")
    remaining: str | None = Field(description="Money that it can still pay, exact. null for credits.")
    priority: int
    category: Category
    source: str
    expires_at: Timestamp | None
    status: GrantStatus = Field(description="`closed`: spent, or ended before its expiry.")
    created_at: Timestamp

    @classmethod
    def of(cls, grant: Grant, now: datetime, **error: object) -> Self:
        status = grant.status(now)
        remaining = grant.remaining if status == "active" else 0
        is_credits = grant.unit == CREDIT
        return cls(
            grant_id=grant.grant_id,
            account_id=grant.account_id,
            unit=grant.unit,
            amount_minor=grant.amount * MINOR_PER_CREDIT if is_credits else None,
            remaining_minor=remaining * MINOR_PER_CREDIT if is_credits else None,
            amount=None if is_credits else decimal_text(grant.amount),
            remaining=None if is_credits else decimal_text(remaining),
            priority=grant.priority,
            category=grant.category,
            source=grant.source,
            expires_at=grant.expires_at,
            status=status,
            created_at=grant.created_at,
            **error,
        )


class ReplayedGrant(GrantReply, ErrorReply):
    """409: the grant exists already, in its present state."""


class GrantsReply(Reply):
    grants: list[GrantReply]
    total_count: int
    has_more: bool


OpenOnly = Literal["active", "all"]
