"""Configuration: the values in force, in every process within a second of a change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel

from app.auth.caller import Environment
from app.auth.spelling import FoldedProviders
from app.clock import steady_s
from app.configuration import queries
from app.configuration.providers import configured_keys, open_keys
from app.configuration.sealing import CannotOpen, Sealed, Sealer
from app.configuration.section import DocumentT, Section
from app.configuration.sections import DEFAULTS, PACKS, PRODUCTS, PROVIDER_SECTIONS, SECTIONS, Defaults
from app.db import Database
from app.db.listener import NotificationListener
from app.packs import Pack
from app.products import Product
from app.settings import Settings
from app.stripe_keys import StripeKeys

CHANNEL = "configuration"
log = structlog.get_logger()


def _document(documents: Mapping[str, BaseModel], section: Section[DocumentT]) -> DocumentT:
    document = documents[section.name]
    assert isinstance(document, section.document)
    return document


@dataclass(frozen=True, slots=True)
class Current:
    """One consistent state of the whole configuration."""

    changes: int
    documents: Mapping[str, BaseModel]
    """Of each section that admins edit, by its name."""
    packs: Mapping[str, Pack]
    products: Mapping[str, Product]
    providers: Mapping[Environment, StripeKeys]

    def document(self, section: Section[DocumentT]) -> DocumentT:
        """Return the document of a section that admins edit."""
        return _document(self.documents, section)

    @property
    def defaults(self) -> Defaults:
        return self.document(DEFAULTS)

    def default_pack(self, currency: str) -> str | None:
        """Return the pack that a purchase in this currency buys by default. None: no pack is sold in the currency."""
        return next((name for name, pack in self.packs.items() if pack.currency == currency), None)


class Configuration:
    """Reads the configuration. The database overrides the settings, section by section.

    With a listener, the last state is reused until a change is notified, as long as the listener is current. Without
    one (the worker, commands) every call reads one row.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        listener: NotificationListener | None = None,
        *,
        sections: Sequence[Section[Any]] = SECTIONS,
    ) -> None:
        self._db = db
        self._sections = [section for section in sections if section.is_editable]
        self._settings = settings
        self._listener = listener
        self.folded_providers = FoldedProviders.of(settings)
        self._sealer = Sealer(settings.encryption_keys)
        self._current: Current | None = None
        self._notifications = 0
        if listener is not None:
            listener.subscribe(CHANNEL, lambda _: self._forget(), self._forget)

    @property
    def settings(self) -> Settings:
        """The settings, which only a restart changes."""
        return self._settings

    async def current(self) -> Current:
        known = self._current
        if known is not None and self._listener is not None and self._listener.is_current(steady_s()):
            return known
        before = self._notifications
        row = await queries.find_current(self._db)
        if known is None or known.changes != row["changes"]:
            known = self._read(row)
        if before == self._notifications:  # else the state may be older than a change, and serves this call only
            self._current = known
        return known

    def _forget(self) -> None:
        self._notifications += 1
        self._current = None

    def _read(self, row: Mapping[str, Any]) -> Current:
        stored = row["documents"] or {}
        documents = {
            section.name: section.document.model_validate(
                stored.get(section.name) or section.from_settings(self._settings)
            )
            for section in self._sections
        }
        return Current(
            changes=row["changes"],
            documents=documents,
            packs={pack.name: pack for pack in _document(documents, PACKS).packs},
            products={product.name: product for product in _document(documents, PRODUCTS).products},
            providers=self._providers(stored, row["sealed"] or {}),
        )

    def _providers(self, documents: Mapping[str, Any], sealed: Mapping[str, Any]) -> dict[Environment, StripeKeys]:
        """Return the keys of each environment that has keys.

        Stored keys that cannot be opened count as absent. The settings' keys do not replace them: they may belong to
        another Stripe account.
        """
        found: dict[Environment, StripeKeys] = {}
        for environment, section in PROVIDER_SECTIONS.items():
            document = documents.get(section.name)
            if document is None:
                keys = configured_keys(self._settings, environment)
                if keys is not None:
                    found[environment] = keys
                continue
            try:
                key_id, data = sealed[environment]
                sealed_keys = Sealed(key_id, bytes.fromhex(data))
                found[environment] = open_keys(self._sealer, environment, document["publishable_key"], sealed_keys)
            except (KeyError, CannotOpen) as error:
                log.error("payment_provider_unreadable", environment=environment, reason=str(error))
        return found
