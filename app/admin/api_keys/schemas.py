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
CLIENT_SUBJECT = "Subject of the client certificate that requests must present; null: none is required."


class KeyBody(Reply):
    environment: Environment
    name: KeyName
    permissions: Annotated[set[Permission], Field(min_length=1)]
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] = Field(default=[])
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None


class KeyChange(Reply):
    """Only the given fields change; null removes an expiry, a certificate or a rate limit."""

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
    facts = {name: getattr(key, name) for name in KeyFacts.__slots__}
    return {
        **facts,
        "permissions": sorted(permission.value for permission in key.permissions),
        "ip_allow_list": [str(network) for network in key.ip_allow_list],
    }
