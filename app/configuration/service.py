"""Configuration: what is set now, in every process within a second of the change."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from app.auth.caller import Environment
from app.auth.spelling import FoldedProviders
from app.configuration import queries
from app.configuration.documents import (
    PROVIDER_SECTIONS,
    Defaults,
    Packs,
    Products,
    defaults_of,
    packs_of,
    products_of,
)
from app.configuration.providers import configured_keys, open_keys
from app.configuration.sealing import CannotOpen, Sealed, Sealer
from app.db import Database
from app.db.listener import NotificationListener
from app.packs import Pack
from app.products import Product
from app.settings import Settings
from app.stripe_keys import StripeKeys

CHANNEL = "configuration"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Current:
    """One consistent state of the whole configuration."""

    changes: int
    packs: Mapping[str, Pack]
    products: Mapping[str, Product]
    defaults: Defaults
    providers: Mapping[Environment, StripeKeys]

    def default_pack(self, currency: str) -> str | None:
        """What a purchase by an account of this currency buys that names no pack; None: nothing is sold in it."""
        return next((name for name, pack in self.packs.items() if pack.currency == currency), None)


class Configuration:
    """What stands in the database wins over the settings, section by section.

    With a listener, what was read counts until a change is notified, as long as the listener is current. Without one
    (the worker, commands) every question reads one row.
    """

    def __init__(self, db: Database, settings: Settings, listener: NotificationListener | None = None) -> None:
        self._db = db
        self._settings = settings
        self._listener = listener
        self.folded_providers = FoldedProviders(settings.folded_providers)
        self._sealer = Sealer(settings.encryption_keys)
        self._current: Current | None = None
        self._notifications = 0
        if listener is not None:
            listener.subscribe(CHANNEL, lambda _: self._forget(), self._forget)

    @property
    def settings(self) -> Settings:
        """What only a restart changes."""
        return self._settings

    async def current(self) -> Current:
        known = self._current
        if (
            known is not None
            and self._listener is not None
            and self._listener.is_current(asyncio.get_running_loop().time())
        ):
            return known
        before = self._notifications
        row = await queries.find_current(self._db)
        if known is None or known.changes != row["changes"]:
            known = self._read(row)
        if before == self._notifications:  # else it may be older than a change, and serves this request only
            self._current = known
        return known

    def _forget(self) -> None:
        self._notifications += 1
        self._current = None

    def _read(self, row: Mapping[str, Any]) -> Current:
        documents = row["documents"] or {}
        packs = Packs.model_validate(documents.get("packs") or packs_of(self._settings))
        products = Products.model_validate(documents.get("products") or products_of(self._settings))
        return Current(
            changes=row["changes"],
            packs={pack.name: pack for pack in packs.packs},
            products={product.name: product for product in products.products},
            defaults=Defaults.model_validate(documents.get("defaults") or defaults_of(self._settings)),
            providers=self._providers(documents, row["sealed"] or {}),
        )

    def _providers(self, documents: Mapping[str, Any], sealed: Mapping[str, Any]) -> dict[Environment, StripeKeys]:
        """The keys of each environment that has some. Those that cannot be opened are none: not the settings' ones,
        which may be of another account."""
        found: dict[Environment, StripeKeys] = {}
        for environment, section in PROVIDER_SECTIONS.items():
            document = documents.get(section)
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
