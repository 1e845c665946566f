"""The document of one-time grants: money for signing up, for each day, and for referring a paying user. Free of I/O.

The amounts in force are runtime configuration (the section `one_time_grants` of app/configuration). All are off until
an admin sets them.
"""

from pydantic import BaseModel, ConfigDict, Field

from app.packs import Currency, KnownCurrency
from app.plans.document import Amount, units_of


class OneTimeGrant(BaseModel):
    """An amount, and how long it can be spent. 0 is off."""

    model_config = ConfigDict(frozen=True)

    amount: Amount = "0"
    expires_after_days: int | None = Field(default=None, ge=1, le=3650, description="null: it never expires.")

    @property
    def nanos(self) -> int:
        return units_of(self.amount, money=True)


class OfferedOneTimeGrant(OneTimeGrant):
    model_config = ConfigDict(extra="forbid")


class OneTimeGrants(BaseModel):
    """Grants of money that each account gets once: at sign-up, per day, per referral. In one currency."""

    model_config = ConfigDict(frozen=True)

    currency: Currency = Field(description="Accounts in another currency get none of these grants.")
    signup: OneTimeGrant = OneTimeGrant()
    daily: OneTimeGrant = OneTimeGrant()
    referral_inviter: OneTimeGrant = OneTimeGrant()
    referral_invitee: OneTimeGrant = OneTimeGrant()

    @property
    def pays_referrals(self) -> bool:
        return self.referral_inviter.nanos > 0 or self.referral_invitee.nanos > 0


class OfferedOneTimeGrants(OneTimeGrants):
    currency: KnownCurrency
    signup: OfferedOneTimeGrant = OfferedOneTimeGrant()
    daily: OfferedOneTimeGrant = OfferedOneTimeGrant()
    referral_inviter: OfferedOneTimeGrant = OfferedOneTimeGrant()
    referral_invitee: OfferedOneTimeGrant = OfferedOneTimeGrant()
