"""Wire types of `/admin/config`. No answer contains more of a secret than its tail."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from app.admin.schemas import Reason
from app.auth.caller import Environment
from app.configuration.documents import MAX_ENTRIES, Defaults, NamedPack, Packs, Products, Section
from app.configuration.editing import Version
from app.http.schemas import Reply, Timestamp
from app.settings import KnownCurrency, OfferedPack

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


class OfferedNamedPack(OfferedPack, NamedPack):
    """A pack that Stripe can sell."""


class PacksBody(Packs, ChangeFields):
    packs: list[OfferedNamedPack] = Field(min_length=1, max_length=MAX_ENTRIES)  # type: ignore[assignment]  # stricter


class PacksReply(Packs, SectionState):
    pass


class ProductsBody(Products, ChangeFields):
    pass


class CatalogueReply(Products, SectionState):
    pass


class DefaultsBody(Defaults, ChangeFields):
    currency: KnownCurrency


class DefaultsReply(Defaults, SectionState):
    pass


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


class VersionsReply(Reply):
    section: Section
    versions: list[VersionReply]
    next_cursor: int | None


class SettingsReply(Reply):
    section: Section
    document: dict[str, Any] | None = Field(
        description="In the form of a version's document; null: the settings have no keys.",
    )


def state_of(version: Version) -> dict[str, Any]:
    return {name: getattr(version, name) for name in SectionState.model_fields}
