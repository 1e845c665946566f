"""The wire format of `/admin/config`. No answer holds more of a secret than its tail."""

import re
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, create_model

from app.admin.schemas import Reason
from app.auth.caller import Environment
from app.configuration.editing import Version
from app.configuration.section import Section
from app.http.schemas import Reply, Timestamp

KEY = StringConstraints(min_length=8, max_length=255, pattern=r"^[A-Za-z0-9_]+$")
PublishableKey = Annotated[str, KEY]


def _one_word(secret: SecretStr) -> SecretStr:
    """A line break that was pasted along is no part of a key: HTTP clients quote such a header in their errors."""
    if not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("has spaces, line breaks or letters that no key has")
    return secret


Secret = Annotated[SecretStr, Field(min_length=8, max_length=255), AfterValidator(_one_word)]


class ChangeFields(Reply):
    version: Annotated[int, Field(ge=0, le=2**53)] = Field(
        description="The version that this changes, as it was read. Another one answers 409."
    )
    reason: Reason


class SectionState(Reply):
    version: int = Field(description="0: no admin has set it.")
    source: Literal["settings", "admin"]
    reason: str | None = Field(description="Why it was set.")
    changed_by: str | None
    changed_at: Timestamp | None


def body_of(section: Section[Any]) -> type[ChangeFields]:
    """Return the wire type of a change: the section's document, as strict as offers are, and the change's fields."""
    bases: tuple[Any, ...] = (section.offered or section.document, ChangeFields)
    return cast("type[ChangeFields]", create_model(f"{_titled(section)}Body", __base__=bases))


def reply_of(section: Section[Any]) -> type[BaseModel]:
    """Return the wire type of a section: its document and its state."""
    bases: tuple[Any, ...] = (section.document, SectionState)
    name = section.reply_name or f"{_titled(section)}Reply"
    return cast("type[BaseModel]", create_model(name, __base__=bases))


def _titled(section: Section[Any]) -> str:
    return section.name.title().replace("_", "")


class ProviderBody(ChangeFields):
    publishable_key: PublishableKey = Field(examples=["pk_live_51Hx"])
    secret_key: Secret | None = Field(default=None, description="Absent: as it is stored.")
    webhook_secret: Secret | None = Field(default=None, description="Absent: as it is stored.")


class ProviderReply(SectionState):
    """An environment's payment provider; without keys, nothing can be bought there."""

    environment: Environment
    provider: Literal["stripe"] = "stripe"
    publishable_key: str | None
    secret_key_tail: str | None = Field(examples=["…x7Qd"])
    webhook_secret_tail: str | None
    readable: bool = Field(description="false: the stored keys cannot be opened with ENCRYPTION_KEYS as it is.")


class ProvidersReply(Reply):
    providers: list[ProviderReply]
    webhook_url: str = Field(description="Where Stripe should send its events.")
    can_store: bool = Field(description="false: ENCRYPTION_KEYS is not set, so keys come from the settings only.")


class TryProviderBody(Reply):
    secret_key: Secret | None = Field(default=None, description="Absent: the key that counts now.")


class TryProviderReply(Reply):
    ok: bool
    problem: str | None
    note: str | None = Field(description="A remark about an accepted key.")


class VersionReply(Reply):
    version: int
    document: dict[str, Any] | None = Field(description="null: back to the settings.")
    reason: str
    changed_by: str
    changed_at: Timestamp


class Versions(Reply):
    section: str
    versions: list[VersionReply]
    next_cursor: int | None


class SectionOfSettings(Reply):
    section: str
    document: dict[str, Any] | None = Field(description="As a version's document; null: the settings have no keys.")


def state_of(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in SectionState.model_fields}
