"""Wire types of an account's money and grants. Money is exact decimal text in the currency's major unit."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Moment, ReasonBody
from app.errors import InvalidRequest
from app.http.schemas import Key255, Reply, Timestamp
from app.ledger.amounts import UpperCurrency
from app.ledger.money import decimal_text
from app.ledger.units import amount_text
from app.wallet.schemas import PositiveMoney
from app.wallet.service import Grant, GrantStatus, NewGrant

Money = Annotated[str, Field(examples=["9.999600"])]
SOURCE = "back_office"


class WalletReply(Reply):
    """Money and grants. Expired grants do not count."""

    currency: str
    money: Money = Field(description="Spendable, without grants. Never expires.")
    debt: Money = Field(description="Money that the account owes. The next purchase pays it first.")
    grants: int = Field(description="Open grants, of credits and of money.")
    granted_credits: int = Field(description="Credits that the open grants can pay.")
    granted_money: Money = Field(description="Money that the open grants can pay.")
    held_credits: int
    held_money: Money
    lifetime_purchased: Money
    lifetime_granted: Money
    lifetime_used: Money
    billing_enabled: bool = Field(description="false: usage is recorded and priced, never charged.")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        money = {
            "money": "money_nanos",
            "debt": "money_debt_nanos",
            "granted_money": "granted_nanos",
            "held_money": "held_money_nanos",
            "lifetime_purchased": "money_purchased_nanos",
            "lifetime_granted": "money_granted_nanos",
            "lifetime_used": "money_used_nanos",
        }
        same = ("currency", "grants", "granted_credits", "held_credits", "billing_enabled")
        return cls(
            **{name: decimal_text(int(row[column])) for name, column in money.items()},
            **{name: row[name] for name in same},
        )


class AccountGrant(Reply):
    """A grant. Amounts are in `unit`: whole credits, or exact money in major units."""

    grant_id: UUID
    unit: str = Field(description="`credit`, or the currency of a grant of money.")
    amount: str
    remaining: str = Field(description="0 once it cannot pay.")
    priority: int = Field(description="Lower numbers pay first.")
    category: str
    source: str
    expires_at: Timestamp | None
    status: GrantStatus
    created_at: Timestamp

    @classmethod
    def of(cls, grant: Grant, now: datetime) -> Self:
        status = grant.status(now)
        same = ("grant_id", "unit", "priority", "category", "source", "expires_at", "created_at")
        return cls(
            **{name: getattr(grant, name) for name in same},
            amount=amount_text(grant.unit, grant.amount),
            remaining=amount_text(grant.unit, grant.remaining if status == "active" else 0),
            status=status,
        )


class AccountGrantsReply(Reply):
    grants: list[AccountGrant]
    next_cursor: int | None


class GiveGrantBody(ReasonBody):
    credits: Annotated[int, Field(strict=True, ge=1, le=10**9)] | None = Field(
        default=None, description="A grant of credits."
    )
    money: PositiveMoney | None = Field(default=None, description="A grant of money, in major units of the currency.")
    currency: UpperCurrency | None = Field(
        default=None, description="The currency that the admin saw. Must be the account's."
    )
    priority: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        default=50, description="Lower numbers pay first. Of equal ones, the grant that expires first."
    )
    category: Literal["promotional", "subscription", "compensation"] = "compensation"
    expires_at: Moment | None = Field(
        default=None, description="From this moment on it cannot pay. Must be in the future. Never, if absent."
    )
    idempotency_key: Key255 = Field(description="A repeated key changes nothing.")

    def grant(self) -> NewGrant:
        """Return the grant. Raise InvalidRequest unless exactly one amount is given."""
        if (self.credits is None) == (self.money is None):
            raise InvalidRequest("credits: give either credits or money", field="credits")
        return NewGrant(
            amount=self.credits or self.money or 0,
            money=self.money is not None,
            currency=self.currency,
            priority=self.priority,
            category=self.category,
            source=SOURCE,
            expires_at=self.expires_at,
        )


class GivenGrantReply(Reply):
    grant: AccountGrant
    replayed: bool


class EndedGrantReply(Reply):
    grant: AccountGrant
    lost: str = Field(description="Amount that was left and is lost, in the grant's unit. 0: it had ended before.")

    @classmethod
    def ended(cls, grant: Grant, lost: int, now: datetime) -> Self:
        return cls(grant=AccountGrant.of(grant, now), lost=amount_text(grant.unit, lost))
