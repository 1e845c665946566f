"""Wire types of API keys."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, IPvAnyNetwork, StringConstraints

from app.admin.schemas import Moment
from app.auth.api_keys.keys import MAX_NAME_CHARS, MAX_SUBJECT_CHARS, KeyFacts, KeyStatus, UsageTerms
from app.auth.api_keys.service import MAX_ALLOWED_NETWORKS, MAX_RATE_LIMIT_PER_MINUTE
from app.auth.api_keys.usage_terms import MAX_NANOS
from app.auth.caller import DoubleCharges, Environment, Permission, UsagePolicy
from app.http.schemas import Key255, Reply, Text255, Timestamp

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[^\x00]+$")]
ClientSubject = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT_CHARS)]
CLIENT_SUBJECT = "Subject of the client certificate that requests must present; null: none is required."
IDENTITY_PROVIDER = (
    "Provider of the users that requests with this key name by `user_id`, such as `oauth:zero`. "
    "null: requests cannot use `user_id`."
)
EVENT_SOURCE = (
    "Source of the usage events that the key reports. Successors of the key keep it: the same event id is counted once."
)
USAGE_POLICY = "For usage that the account's money does not cover: refuse it, or record the rest as debt."
DEBT_LIMIT = "The most debt that an account may have by usage, in billionths of its currency's major unit."
MAX_COST = (
    "The largest cost that the key may state for one event, in billionths of the account's currency's major unit."
)
DOUBLE_CHARGES = (
    "For a charge with the `metadata.request_id`, the description and the amount of an earlier one, under another "
    "idempotency key: charge it as any other, charge and flag it, or refuse it."
)
Nanos = Annotated[int, Field(ge=0, le=MAX_NANOS)]


class UsageFields(Reply):
    """The terms on which a key reports usage."""

    identity_provider: Text255 | None = Field(default=None, description=IDENTITY_PROVIDER, examples=["oauth:zero"])
    usage_policy: UsagePolicy = Field(default="refuse", description=USAGE_POLICY)
    debt_limit_nanos: Nanos | None = Field(
        default=None, description=f"{DEBT_LIMIT} Required with the usage policy `debt`."
    )
    max_cost_nanos: Nanos | None = Field(
        default=None, description=f"{MAX_COST} Required with the permission `usage:set_cost`."
    )

    def terms(self, event_source: str | None) -> UsageTerms:
        return UsageTerms(
            self.identity_provider, event_source, self.usage_policy, self.debt_limit_nanos, self.max_cost_nanos
        )


class KeyBody(UsageFields):
    environment: Environment
    name: KeyName
    permissions: Annotated[set[Permission], Field(min_length=1)]
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] = Field(default=[])
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None
    double_charges: DoubleCharges = Field(default="ignore", description=DOUBLE_CHARGES)
    event_source: Key255 | None = Field(
        default=None, description=f"{EVENT_SOURCE} It cannot be changed. Default: `api-key:` and the key's id."
    )


class KeyChange(UsageFields):
    """Only the given fields change; null removes an expiry, a certificate, a provider or a limit."""

    name: KeyName | None = None
    permissions: Annotated[set[Permission], Field(min_length=1)] | None = None
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] | None = None
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None
    double_charges: DoubleCharges | None = Field(default=None, description=DOUBLE_CHARGES)


class KeyReply(Reply):
    key_id: str
    environment: Environment
    name: str
    status: KeyStatus
    permissions: list[Permission]
    ip_allow_list: list[str]
    client_subject: str | None = Field(description=CLIENT_SUBJECT)
    rate_limit_per_minute: int | None
    identity_provider: str | None = Field(description=IDENTITY_PROVIDER)
    event_source: str = Field(description=EVENT_SOURCE)
    usage_policy: UsagePolicy = Field(description=USAGE_POLICY)
    debt_limit_nanos: int | None = Field(description=DEBT_LIMIT)
    max_cost_nanos: int | None = Field(description=MAX_COST)
    double_charges: DoubleCharges = Field(description=DOUBLE_CHARGES)
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    rotated_to: str | None
    grace_ends_at: Timestamp | None
    last_used_at: Timestamp | None
    requests_total: int = Field(
        description="Requests that the key authenticated; those of the last minute may be missing.",
    )
    credits_charged: int = Field(
        description="Credits that the key's charges and tool uses took from main pools, free ones included."
    )

    @classmethod
    def of(cls, key: KeyFacts, credits_charged: int, now: datetime) -> "KeyReply":
        return cls(**key_facts(key), credits_charged=credits_charged, status=key.status(now))


class KeysReply(Reply):
    api_keys: list[KeyReply]
    rotation_grace_s: int = Field(description="How long a key continues to work after its rotation.")


class NewKeyReply(Reply):
    key_id: str
    api_key: str = Field(description="The whole key. Shown only once, and stored nowhere.")


def key_facts(key: KeyFacts) -> dict[str, Any]:
    """Return a key's fields as texts and times. None of them is secret."""
    facts = {name: getattr(key, name) for name in KeyFacts.__slots__ if name != "usage"}
    return {
        **facts,
        **asdict(key.usage),
        "event_source": key.source,
        "permissions": sorted(permission.value for permission in key.permissions),
        "ip_allow_list": [str(network) for network in key.ip_allow_list],
    }
