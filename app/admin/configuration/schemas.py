"""Wire types of `/admin/config`. No answer contains more of a secret than its tail."""

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
    """Reject blanks and line breaks, which come from pasting: HTTP clients quote such a header in their errors."""
    if not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("contains spaces, line breaks or characters that no key has")
    return secret


Secret = Annotated[SecretStr, Field(min_length=8, max_length=255), AfterValidator(_one_word)]


class ChangeFields(Reply):
    version: Annotated[int, Field(ge=0, le=2**53)] = Field(
        description="The version that was read. If another one is current, the answer is 409."
    )
    reason: Reason


class SectionState(Reply):
    version: int = Field(description="0: never set.")
    source: Literal["settings", "admin"]
    reason: str | None = Field(description="The reason of the change.")
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
    secret_key: Secret | None = Field(default=None, description="Absent: the stored one stays.")
    webhook_secret: Secret | None = Field(default=None, description="Absent: the stored one stays.")


class ProviderReply(SectionState):
    """An environment's payment provider. Without keys, purchases are impossible there."""

    environment: Environment
    provider: Literal["stripe"] = "stripe"
    publishable_key: str | None
    secret_key_tail: str | None = Field(examples=["…x7Qd"])
    webhook_secret_tail: str | None
    readable: bool = Field(description="false: the stored keys cannot be decrypted with ENCRYPTION_KEYS.")


class ProvidersReply(Reply):
    providers: list[ProviderReply]
    webhook_url: str = Field(description="URL for Stripe's webhook endpoint.")
    can_store: bool = Field(description="false: ENCRYPTION_KEYS is not set, so keys can come only from the settings.")


class TryProviderBody(Reply):
    secret_key: Secret | None = Field(default=None, description="Absent: the key in use.")


class TryProviderReply(Reply):
    ok: bool
    problem: str | None
    note: str | None = Field(description="A remark about an accepted key.")


class VersionReply(Reply):
    version: int
    document: dict[str, Any] | None = Field(description="null: reset to the settings.")
    reason: str
    changed_by: str
    changed_at: Timestamp


class Versions(Reply):
    section: str
    versions: list[VersionReply]
    next_cursor: int | None


class SectionOfSettings(Reply):
    section: str
    document: dict[str, Any] | None = Field(
        description="In the form of a version's document; null: the settings have no keys."
    )


def state_of(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in SectionState.model_fields}
