"""ConfigurationEditor: replaces sections as a whole. Each change is a version."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import SecretStr

from app.auth.caller import Environment
from app.configuration import queries
from app.configuration.errors import ConfigurationChanged
from app.configuration.providers import configured_keys, open_keys, require_keys_of, seal_keys
from app.configuration.sealing import CannotOpen, Sealer
from app.configuration.section import Document, Section
from app.configuration.sections import PROVIDER_SECTIONS, SECTIONS, Provider
from app.db import Session
from app.errors import InvalidRequest
from app.settings import Settings
from app.stripe_keys import StripeKeys


@dataclass(frozen=True, slots=True)
class Version:
    """A section at one version. Version 0: no admin has set it."""

    version: int
    document: Document | None
    source: Literal["settings", "admin"] = "settings"
    reason: str | None = None
    changed_by: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """The author, time and reason of a change. `expected_version` is the version that the author has read."""

    expected_version: int
    reason: str
    changed_by: str
    admin_id: UUID
    now: datetime


class ConfigurationEditor:
    """Writes the configuration that `Configuration` reads, in the caller's transaction."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sealer = Sealer(settings.encryption_keys)
        self._is_local = settings.stripe_api_base is not None

    @property
    def can_seal(self) -> bool:
        """Whether an encryption key is set, so that secrets can be stored."""
        return self._sealer.key_id is not None

    async def find(self, db: Session, section: Section[Any]) -> Version:
        """Return the section's last version, or the document of the settings."""
        row = await queries.find_latest(db, section.name)
        version = Version(0, None) if row is None else _version(row)
        return version if version.document is not None else replace(version, document=self.from_settings(section))

    async def versions(self, db: Session, section: Section[Any], *, before: int | None, limit: int) -> list[Version]:
        """Return the versions, newest first. A version without a document returned to the settings."""
        return [_version(row) for row in await queries.list_versions(db, section.name, before=before, limit=limit)]

    async def document_at(self, db: Session, section: Section[Any], version: int) -> Document | None:
        """Return the document of an earlier version. None: there is no such version, or the settings have none.

        Version 0, and a version that returned to the settings, have the document of the present settings.
        """
        row = None if version == 0 else await queries.find_version(db, section.name, version)
        if row is None and version != 0:
            return None
        document: Document | None = None if row is None else row["document"]
        return self.from_settings(section) if document is None else document

    async def change(
        self, tx: Session, section: Section[Any], document: Document | None, change: Change
    ) -> tuple[Version, Version]:
        """Set a section, or return it to the settings. Return the versions before and after.

        Locks the configuration until commit. A document that equals the present one adds no version. Every process
        reads the change within 1 s of the commit. Raises ConfigurationChanged, and what the section's checks raise.
        """
        await queries.lock_configuration(tx)
        before = await self._expected(tx, section, change)
        target = self.from_settings(section) if document is None else document
        if section.check is not None:
            section.check(await self._documents_with(tx, section, target))
        if section.check_change is not None and before.document is not None and target is not None:
            section.check_change(before.document, target)
        if target == before.document and (document is not None or before.source == "settings"):
            return before, before
        return before, await self._add_version(tx, section, document, change)

    async def _expected(self, tx: Session, section: Section[Any], change: Change) -> Version:
        before = await self.find(tx, section)
        if before.version != change.expected_version:
            raise ConfigurationChanged(section.name, before.version)
        return before

    async def _documents_with(
        self, tx: Session, section: Section[Any], target: Document | None
    ) -> Mapping[str, Document]:
        """Return the sections' documents by name, with `target` in the place of the section's own."""
        others = [other for other in SECTIONS if other.is_editable and other.name != section.name]
        found = {other.name: (await self.find(tx, other)).document for other in others} | {section.name: target}
        return {name: document for name, document in found.items() if document is not None}

    async def _add_version(
        self, tx: Session, section: Section[Any], document: Document | None, change: Change
    ) -> Version:
        row = {
            "section": section.name,
            "version": change.expected_version + 1,
            "document": document,
            "reason": change.reason,
            "changed_by": change.changed_by,
            "admin_id": change.admin_id,
            "created_at": change.now,
        }
        await queries.insert_version(tx, row)
        return await self.find(tx, section)

    def from_settings(self, section: Section[Any]) -> Document | None:
        """Return the document that the settings give, whether or not an admin has set the section.

        A provider's document holds the tails of its secrets. None: the settings have no keys.
        """
        return section.of(self._settings)

    async def change_provider(
        self,
        tx: Session,
        environment: Environment,
        change: Change,
        *,
        publishable_key: str,
        secret_key: SecretStr | None,
        webhook_secret: SecretStr | None,
    ) -> tuple[Version, Version]:
        """Set an environment's provider. Return the versions before and after. A secret that is None stays as stored.

        Locks as `change` does. Raises ConfigurationChanged, EncryptionNotConfigured, InvalidRequest.
        """
        await queries.lock_configuration(tx)
        before = await self._expected(tx, PROVIDER_SECTIONS[environment], change)
        stored = await self._stored_keys(tx, environment) if None in (secret_key, webhook_secret) else None
        if stored is not None:
            secret_key, webhook_secret = secret_key or stored.secret_key, webhook_secret or stored.webhook_secret
        if secret_key is None or webhook_secret is None:
            missing = "secret_key" if secret_key is None else "webhook_secret"
            raise InvalidRequest(f"{missing} is required: none is stored that could be kept", field=missing)
        keys = StripeKeys(publishable_key=publishable_key, secret_key=secret_key, webhook_secret=webhook_secret)
        require_keys_of(environment, keys, is_local=self._is_local)
        await self._require_webhook_secret_of_its_own(tx, environment, webhook_secret)
        await queries.upsert_sealed(tx, environment, seal_keys(self._sealer, environment, keys), change.now)
        # Always a new version: equal documents can hide new secrets, of which they hold only the tails.
        return before, await self._add_version(
            tx, PROVIDER_SECTIONS[environment], Provider.of(keys).model_dump(), change
        )

    async def reset(self, tx: Session, section: Section[Any], change: Change) -> tuple[Version, Version]:
        """Return to the settings and delete a provider's stored keys. Return the versions before and after.

        Locks and raises as `change` does. Also raises InvalidRequest when the other environment now has the settings'
        webhook secret.
        """
        before, after = await self.change(tx, section, None, change)
        for environment, provider in PROVIDER_SECTIONS.items():
            if section == provider:
                await queries.delete_sealed(tx, environment)
                if (keys := configured_keys(self._settings, environment)) is not None:
                    await self._require_webhook_secret_of_its_own(tx, environment, keys.webhook_secret)
        return before, after

    async def _require_webhook_secret_of_its_own(
        self, tx: Session, environment: Environment, secret: SecretStr
    ) -> None:
        other: Environment = "test" if environment == "live" else "live"
        neighbour = await self._stored_keys(tx, other) or configured_keys(self._settings, other)
        if neighbour is not None and neighbour.webhook_secret == secret:
            raise InvalidRequest(
                f"webhook_secret is that of the {other} environment: an event could be either's", field="webhook_secret"
            )

    async def is_readable(self, db: Session, environment: Environment) -> bool:
        """Return whether the stored keys of an environment can be opened."""
        return await self._stored_keys(db, environment) is not None

    async def reseal(self, tx: Session, now: datetime) -> int:
        """Seal stored keys again under the first encryption key. Return the number of rows. Locks the configuration.

        Raises CannotOpen for a row that was sealed under a key that is no longer configured.
        """
        await queries.lock_configuration(tx)
        resealed = 0
        for environment in PROVIDER_SECTIONS:
            sealed = await queries.find_sealed(tx, environment)
            if sealed is not None and sealed.key_id != self._sealer.key_id:
                keys = open_keys(self._sealer, environment, "", sealed)
                await queries.upsert_sealed(tx, environment, seal_keys(self._sealer, environment, keys), now)
                resealed += 1
        return resealed

    async def _stored_keys(self, tx: Session, environment: Environment) -> StripeKeys | None:
        sealed = await queries.find_sealed(tx, environment)
        if sealed is None:
            return None
        try:
            return open_keys(self._sealer, environment, "", sealed)
        except CannotOpen:
            return None  # treated as absent: an admin has to enter them again


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        version=row["version"],
        document=row["document"],
        source="settings" if row["document"] is None else "admin",
        reason=row["reason"],
        changed_by=row["changed_by"],
        changed_at=row["created_at"],
    )
