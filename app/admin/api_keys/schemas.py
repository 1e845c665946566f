"""Wire types of API keys."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, IPvAnyNetwork, StringConstraints

from app.admin.schemas import Moment
from app.auth.api_keys.keys import MAX_NAME_CHARS, MAX_SUBJECT_CHARS, KeyFacts, KeyStatus
from app.auth.api_keys.service import MAX_ALLOWED_NETWORKS, MAX_RATE_LIMIT_PER_MINUTE
from app.auth.caller import Environment, Permission
from app.http.schemas import Reply, Timestamp

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[^\x00]+$")]
ClientSubject = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT_CHARS)]
CLIENT_SUBJECT = "Subject of the client certificate that requests must come with; null: none is needed."


class KeyBody(Reply):
    environment: Environment
    name: KeyName
    permissions: Annotated[set[Permission], Field(min_length=1)]
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] = Field(default=[])
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None


class KeyChange(Reply):
    """Only what is given changes; null takes an expiry, a certificate or a rate limit away."""

    name: KeyName | None = None
    permissions: Annotated[set[Permission], Field(min_length=1)] | None = None
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] | None = None
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None


class KeyReply(Reply):
    key_id: str
    environment: Environment
    name: str
    status: KeyStatus
    permissions: list[Permission]
    ip_allow_list: list[str]
    client_subject: str | None = Field(description=CLIENT_SUBJECT)
    rate_limit_per_minute: int | None
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    rotated_to: str | None
    grace_ends_at: Timestamp | None
    last_used_at: Timestamp | None
    requests_total: int = Field(description="Requests that it authenticated; those of the last minute may be missing.")
    credits_charged: int = Field(
        description="Credits that its charges and tool uses took from main pools, free ones too."
    )

    @classmethod
    def of(cls, key: KeyFacts, credits_charged: int, now: datetime) -> "KeyReply":
        return cls(**key_facts(key), credits_charged=credits_charged, status=key.status(now))


class KeysReply(Reply):
    api_keys: list[KeyReply]
    rotation_grace_s: int = Field(description="How long a key works on after it is rotated.")


class NewKeyReply(Reply):
    key_id: str
    api_key: str = Field(description="The whole key. It is shown this once and stored nowhere.")


def key_facts(key: KeyFacts) -> dict[str, Any]:
    """Everything about a key as texts and times: nothing of it is secret."""
    facts = {name: getattr(key, name) for name in KeyFacts.__slots__}
    return {
        **facts,
        "permissions": sorted(permission.value for permission in key.permissions),
        "ip_allow_list": [str(network) for network in key.ip_allow_list],
    }
