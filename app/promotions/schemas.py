"""Wire format of one-time grants (wire-compatible with Z-Billing). Cents are minor units of an account's currency.

Beside each rounded field is the exact decimal text.
"""

from typing import Self

from pydantic import BaseModel, Field

from app.accounts.directory import Identity
from app.accounts.errors import IdentityRequired
from app.accounts.schemas import OAuthProvider, UserFields, user_identity_of
from app.auth.caller import Caller
from app.errors import InvalidRequest
from app.http.schemas import Key255, Reply
from app.ledger.money import decimal_text, minor_floor
from app.promotions.service import Given, Purse, Reason, Referred

REASON = Field(
    default=None, description="Absent if `granted`. `not_available`: these grants are off, or in another currency."
)


def _named(caller: Caller, field: str, named: tuple[str | None, str | None, str | None]) -> Identity:
    """Return the identity of a user that fields with a prefix name. Errors name these fields."""
    try:
        return user_identity_of(caller, *named)
    except (IdentityRequired, InvalidRequest) as error:
        first = error.detail.split(" ", 1)[0]
        name = field.replace("user_id", first) if "user_id" in field else field
        raise InvalidRequest(f"{name}{error.detail[len(first) :]}", field=name) from None


class SignupGrantBody(UserFields):
    referred_by: Key255 | None = Field(
        default=None, description="The user who invited this one, at the API key's `identity_provider`."
    )

    def inviter(self, caller: Caller) -> Identity | None:
        """Return the identity of the user who invited this one. Raise InvalidRequest, which names the field."""
        return None if self.referred_by is None else _named(caller, "referred_by", (None, None, self.referred_by))


class DailyGrantBody(UserFields):
    """The user who gets the day's grant."""


class ReferralGrantBody(BaseModel):
    """Two users, each by `user_id` at the API key's `identity_provider`, or by the identity fields."""

    inviter_user_id: Key255 | None = None
    inviter_oauth_provider: OAuthProvider | None = None
    inviter_external_id: Key255 | None = None
    invitee_user_id: Key255 | None = None
    invitee_oauth_provider: OAuthProvider | None = None
    invitee_external_id: Key255 | None = None

    def inviter(self, caller: Caller) -> Identity:
        named = self.inviter_oauth_provider, self.inviter_external_id, self.inviter_user_id
        return _named(caller, "inviter_user_id", named)

    def invitee(self, caller: Caller) -> Identity:
        named = self.invitee_oauth_provider, self.invitee_external_id, self.invitee_user_id
        return _named(caller, "invitee_user_id", named)


class GrantedReply(Reply):
    granted: bool
    amount_cents: int | None = Field(default=None, description="Given by this call. Absent unless `granted`.")
    amount: str | None = Field(default=None, description="The same, exact.")
    reason: Reason | None = REASON
    balance_cents: int = Field(description="Spendable on metered usage, rounded down.")
    balance: str = Field(examples=["5.000000"])

    @classmethod
    def of(cls, given: Given) -> Self:
        purse = given.purse
        is_granted = given.reason is None
        return cls(
            granted=is_granted,
            amount_cents=_cents(purse, purse.given_nanos) if is_granted else None,
            amount=decimal_text(purse.given_nanos) if is_granted else None,
            reason=given.reason,
            balance_cents=_cents(purse, purse.balance_nanos),
            balance=decimal_text(purse.balance_nanos),
        )


class ReferralReply(Reply):
    granted: bool = Field(description="true: with this call, both have their grants.")
    reason: Reason | None = REASON
    invitee_amount_cents: int | None = Field(default=None, description="Absent unless `granted`.")
    invitee_amount: str | None = None
    inviter_amount_cents: int | None = None
    inviter_amount: str | None = None
    invitee_balance_cents: int
    invitee_balance: str
    inviter_balance_cents: int
    inviter_balance: str

    @classmethod
    def of(cls, referred: Referred) -> Self:
        amounts: dict[str, int | str] = {}
        for who, purse in (("invitee", referred.invitee), ("inviter", referred.inviter)):
            if referred.reason is None:
                amounts[f"{who}_amount_cents"] = _cents(purse, purse.given_nanos)
                amounts[f"{who}_amount"] = decimal_text(purse.given_nanos)
            amounts[f"{who}_balance_cents"] = _cents(purse, purse.balance_nanos)
            amounts[f"{who}_balance"] = decimal_text(purse.balance_nanos)
        return cls.model_validate({"granted": referred.reason is None, "reason": referred.reason, **amounts})


def _cents(purse: Purse, nanos: int) -> int:
    return minor_floor(nanos, purse.currency)
