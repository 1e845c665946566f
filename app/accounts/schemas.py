"""Wire types of accounts, their identities and their profiles."""

from operator import attrgetter
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError, WithJsonSchema

from app.accounts.directory import Identity, Profile
from app.accounts.errors import IdentityRequired
from app.auth.caller import Caller
from app.auth.spelling import canonical_uuid
from app.errors import InvalidRequest
from app.http.schemas import Key255, Label, Reply, Text255, Timestamp
from app.ledger.amounts import GrantMinor, UpperCurrency
from app.ledger.pools import MINOR_PER_CREDIT

OAuthProvider = Annotated[
    str,
    StringConstraints(pattern=r"^oauth:[^\x00]+$", max_length=255),
    Field(examples=["oauth:google"], description="`oauth:` and the provider's name; any provider."),
]


USER_ID = (
    "The user's id at the API key's `identity_provider`, instead of `oauth_provider` and `external_id`. A UUID may be "
    "in upper case and without hyphens."
)


class ProfileFields(BaseModel):
    """Attributes of the person. null means "not given" and changes nothing.

    With a user's token, only the marketing fields count. The e-mail address and the name come from the token.
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
        """Return the attributes that the caller may set. A user's token proves only the attributes that it contains."""
        given = Profile(*_values(self))
        if caller.user is None:
            return given
        return Profile(
            customer_email=caller.user.email,
            display_name=caller.user.display_name,
            marketing_opt_in=given.marketing_opt_in,
            marketing_opt_in_source=given.marketing_opt_in_source,
        )


_values = attrgetter(*Profile._fields)


LATER_USER_ID = f"{USER_ID} Ignored beside both of them if the key has no `identity_provider`."
_USER_ID: TypeAdapter[str] = TypeAdapter(Key255)
LaterUserId = Annotated[
    Any,  # checked where it counts: clients may have sent any value in a field that the service ignored
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}],
            "description": LATER_USER_ID,
        }
    ),
]
"""`user_id` in the body of a route that is older than this field."""
LaterQueryUserId = Annotated[
    str | None,
    Query(description=LATER_USER_ID),
]
"""`user_id` in the query of a route that is older than this parameter."""


class IdentityFields(ProfileFields):
    """The payer, by the identity or by `user_id`. Optional only for an end user, whose token contains it."""

    oauth_provider: OAuthProvider | None = None
    external_id: Key255 | None = Field(default=None, examples=["user@example.com"])
    user_id: LaterUserId = None

    def identity(self, caller: Caller) -> Identity:
        """Return the payer's identity. Raise IdentityRequired or InvalidRequest, which name the field."""
        return identity_of(caller, self.oauth_provider, self.external_id, self.user_id)


def identity_of(
    caller: Caller, oauth_provider: str | None, external_id: str | None, user_id: object = None
) -> Identity:
    """Return the token's identity for an end user, else the request's, on a route that is older than `user_id`.

    Such a route ignored `user_id`, and still does if the API key has no identity_provider and the identity is complete.
    Otherwise the rules and errors of `user_identity_of` apply.
    """
    if caller.user is not None:
        return Identity(caller.environment, caller.user.oauth_provider, caller.user.external_id)
    if oauth_provider is not None and external_id is not None:
        if user_id is None or caller.identity_provider is None:
            return Identity(caller.environment, oauth_provider, external_id)
    elif user_id is None:
        raise IdentityRequired("oauth_provider" if oauth_provider is None else "external_id")
    return user_identity_of(caller, oauth_provider, external_id, _checked_user_id(user_id))


def _checked_user_id(user_id: object) -> str:
    """Return a `user_id` that counts. Raise InvalidRequest unless it is a text of 1 to 255 characters without NUL."""
    try:
        return _USER_ID.validate_python(user_id)
    except ValidationError:
        raise InvalidRequest("user_id must be a string of 1 to 255 characters without NUL", field="user_id") from None


class UserFields(IdentityFields):
    """The user, by the identity fields or by `user_id`. Optional only for an end user, whose token contains it."""

    user_id: Key255 | None = Field(default=None, description=USER_ID)

    def identity(self, caller: Caller) -> Identity:
        """Return the user's identity. Raise IdentityRequired or InvalidRequest, which name the field."""
        return user_identity_of(caller, self.oauth_provider, self.external_id, self.user_id)


def user_identity_of(
    caller: Caller, oauth_provider: str | None, external_id: str | None, user_id: str | None
) -> Identity:
    """Return the token's identity for an end user, else the request's, by `user_id` or by the identity fields.

    Raise IdentityRequired if it names no user, and InvalidRequest if it names two, or if the API key cannot use
    `user_id`.
    """
    if caller.user is not None or user_id is None:
        is_unnamed = oauth_provider is None and external_id is None
        if caller.user is None and is_unnamed and caller.identity_provider is not None:
            raise IdentityRequired("user_id")
        return identity_of(caller, oauth_provider, external_id)
    if caller.identity_provider is None:
        raise InvalidRequest(
            "user_id cannot be used with this API key, which has no identity_provider: send oauth_provider and "
            "external_id",
            field="user_id",
        )
    named = Identity(caller.environment, caller.identity_provider, canonical_uuid(user_id))
    is_other = external_id is not None and canonical_uuid(external_id) != named.external_id
    if is_other or oauth_provider not in (None, caller.identity_provider):
        raise InvalidRequest("user_id names another user than oauth_provider and external_id", field="user_id")
    return named


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
    balance_minor: int = Field(description="`paid_credits` in hundredths.")
    paid_credits: int = Field(description="Paid credits, and grants that have not expired.")
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
                "balance_minor": (account["paid"] + account["grants"]) * MINOR_PER_CREDIT,
                "paid_credits": account["paid"] + account["grants"],
                "free_uses_remaining": account["free"],
            }
        )
