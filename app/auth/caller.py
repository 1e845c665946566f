"""Callers: the sender of a request, and their permissions."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from app.errors import AppError

Environment = Literal["live", "test"]
UsagePolicy = Literal["refuse", "debt"]
"""For usage that the account's money does not cover: refuse it, or record the rest as debt."""
DoubleCharges = Literal["ignore", "flag", "refuse"]
"""For a charge with the request id, the description and the amount of an earlier one, under another idempotency key."""
CallerKind = Literal["key", "user", "admin"]
"""The kinds of caller with separate spaces of idempotency keys (ADR 21). The command line acts as an admin."""
_KINDS: dict[str, CallerKind] = {"api_key": "key", "user": "user", "admin": "admin", "system": "admin"}


class Permission(StrEnum):
    READ = "billing:read"
    WRITE = "billing:write"
    CREDIT = "billing:credit"
    USAGE_READ = "usage:read"
    USAGE_WRITE = "usage:write"
    USAGE_SET_COST = "usage:set_cost"
    MONEY_CREDIT = "money:credit"
    LIMITS_WRITE = "limits:write"
    PAYMENTS_REDEEM = "payments:redeem"


class MissingPermission(AppError):
    status, code = 403, "missing_permission"

    def __init__(self, permission: Permission) -> None:
        super().__init__(f"Missing required permission: {permission.value}")


@dataclass(frozen=True, slots=True)
class Actor:
    """The cause of a movement of credits, as the ledger records it."""

    type: Literal["api_key", "user", "admin", "stripe", "system"]
    id: str

    @property
    def kind(self) -> CallerKind | None:
        """Return the key space of the actor's idempotency keys. None for Stripe, whose bookings have no key."""
        return _KINDS.get(self.type)

    @property
    def key_id(self) -> str | None:
        """Return the id of the API key. None: another kind of actor."""
        return self.id if self.type == "api_key" else None


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """The end user that a verified token names. It overrides any identity in the request's body."""

    oauth_provider: str
    external_id: str
    email: str | None = None
    display_name: str | None = None
    is_interactive: bool = False
    """The token is of a client that only persons use."""
    authenticated_at: datetime | None = None
    """When the user signed in. None: the token does not say."""
    knows_persons: bool = False
    """The token's issuer has clients that only persons use."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request: an API key of one environment, or (with `user`) an end user's token.

    The attributes of usage are an API key's. `source` names the key and all keys that it was rotated from or to.
    """

    environment: Environment
    actor: Actor
    permissions: frozenset[Permission]
    user: UserIdentity | None = None
    identity_provider: str | None = None
    source: str = ""
    usage_policy: UsagePolicy = "refuse"
    debt_limit_nanos: int | None = None
    max_cost_nanos: int | None = None
    double_charges: DoubleCharges = "ignore"

    def require(self, permission: Permission) -> None:
        """Raise MissingPermission unless the caller has the permission."""
        if permission not in self.permissions:
            raise MissingPermission(permission)
