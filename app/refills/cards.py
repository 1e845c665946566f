"""CardService: cards that users save on a page of Stripe, with a recorded consent.

A consent and a page are stored before Stripe is called. The card is stored when Stripe says that the page is complete:
a webhook, the user's next look at the list, and the worker's periodic job all come through `save`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.configuration.sections import REFILLS
from app.configuration.service import Configuration
from app.db import Database, Session, new_id
from app.ledger import refill_queries as settings_queries
from app.ledger.locked_account import lock_account
from app.outbox import defer
from app.payments.customers import Customers
from app.payments.errors import (
    PaymentNotFound,
    PaymentProviderError,
    PaymentProviderFailed,
    PaymentProviderRejects,
    PaymentProviderUnavailable,
)
from app.payments.facts import Provider
from app.payments.stripe_saved_cards import CardMethod, StripeSavedCards
from app.refills import queries
from app.refills.errors import CardNotFound, ConsentRequired, TooManyCards
from app.refills.records import Card, Setup
from app.refills.service import RefillService

DETACH_CARD = "detach_card"
"""Name of the task that removes a card at Stripe."""
MAX_CARDS = 20
"""Saved cards, and open pages that save one, of an account."""
REUSED_FOR = timedelta(hours=1)
"""A second click within this time gets the page of the first."""
OPEN_FOR = timedelta(hours=25)
"""Stripe closes a page after a day."""
LOOKED_AT_AFTER = timedelta(minutes=10)
AT_ONCE = 200
log = structlog.get_logger()


class CardService:
    """One per process. Its methods open their own transactions, but for those whose name ends in `_in`."""

    def __init__(
        self,
        db: Database,
        configuration: Configuration,
        refills: RefillService,
        customers: Customers,
        stripe: StripeSavedCards,
        provider: Provider,
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._refills = refills
        self._customers = customers
        self._stripe = stripe
        self._provider: Provider = provider

    async def open_page(
        self,
        environment: Environment,
        account_id: UUID,
        *,
        consent: str,
        address: str | None,
        urls: tuple[str, str],
        now: datetime,
    ) -> str:
        """Record the user's consent, and return the address of a page that saves a card. `urls`: after it, without it.

        A second click gets the same page. Raises ConsentRequired, TooManyCards, UpgradeInProgress, AccountSuspended,
        AccountClosed, PaymentsNotConfigured, PaymentProviderUnavailable, PaymentProviderRejects.
        """
        await self._refills.require_finished_upgrade()
        if consent != (await self._configuration.current()).document(REFILLS).consent_text:
            raise ConsentRequired
        customer_id = await self._customers.customer_of(environment, account_id, now)
        setup = await self._stored_setup(account_id, customer_id, consent, address, urls, now)
        try:
            page = await self._stripe.open_page(
                environment,
                setup.provider_customer_id,
                account_id=account_id,
                setup_id=setup.setup_id,
                success_url=urls[0],
                cancel_url=urls[1],
            )
        except PaymentProviderFailed:
            await self._end(setup, now)  # Stripe repeats its failure for this page, so the next click gets another one
            raise
        except PaymentProviderRejects:
            await self._end(setup, now)
            await self._customers.forget_missing(environment, account_id, customer_id, now)
            raise
        async with self._db.transaction() as tx:
            await queries.note_page(tx, setup, page.session_id)
        if page.url is None:
            raise PaymentProviderUnavailable
        return page.url

    async def _stored_setup(
        self,
        account_id: UUID,
        customer_id: str,
        consent: str,
        address: str | None,
        urls: tuple[str, str],
        now: datetime,
    ) -> Setup:
        """Return the page of an earlier click, or store a new one with its consent."""
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            account.require_active()
            open_ones = await queries.find_open_setups(tx, account_id)
            for setup in open_ones:
                same = (setup.success_url, setup.cancel_url) == urls and setup.provider_customer_id == customer_id
                is_fresh = now - setup.created_at < REUSED_FOR
                if same and is_fresh and await self._consented(tx, setup) == consent:
                    return setup
            fresh = [setup for setup in open_ones if now - setup.created_at < OPEN_FOR]
            if len(fresh) + len(await queries.list_cards(tx, account_id)) >= MAX_CARDS:
                raise TooManyCards(MAX_CARDS)
            consent_id, setup_id = new_id(), new_id()
            await queries.insert_consent(tx, account_id, consent_id, consent, address, now)
            ids = (account_id, setup_id, consent_id, self._provider, customer_id)
            setup = Setup(*ids, None, "open", *urls, now)
            await queries.insert_setup(tx, setup)
        return setup

    async def _consented(self, tx: Session, setup: Setup) -> str | None:
        return await queries.find_consent_text(tx, setup.account_id, setup.consent_id)

    # --- saving ---

    async def save(self, account_id: UUID, setup_id: UUID, now: datetime) -> bool:
        """Store the card that the user has saved on a page, as the primary one. Return whether this call did.

        Of concurrent calls, one stores it. Raises PaymentProviderUnavailable.
        """
        async with self._db.read() as db:
            setup = await queries.find_setup(db, account_id, setup_id)
        if setup is None or setup.status != "open":
            return False
        environment = await self._environment(account_id)
        method, has_ended = None, now - setup.created_at > OPEN_FOR
        if setup.checkout_session_id is not None:
            try:
                page = await self._stripe.retrieve_page(environment, setup.checkout_session_id)
                method, has_ended = page.method, has_ended or page.has_ended
            except PaymentNotFound:
                has_ended = True  # the keys belong to another account of Stripe now
        if method is not None:
            return await self._store_card(setup, method, now)
        async with self._db.transaction() as tx:
            await queries.set_setup_status(tx, setup, "ended" if has_ended else "open", now)
        return False

    async def _store_card(self, setup: Setup, method: CardMethod, now: datetime) -> bool:
        async with self._db.transaction() as tx:
            account = await lock_account(tx, setup.account_id)
            current = await queries.find_setup(tx, setup.account_id, setup.setup_id)
            if current is None or current.status != "open":
                return False
            await queries.set_setup_status(tx, setup, "completed", now)
            card_id = new_id()
            await queries.insert_card(tx, card_id, setup, method, now)
            if account.status == "closed":
                await self._remove_in(tx, setup.account_id, card_id, now)
                return False
            await self._decide_in(tx, setup.account_id, now)
        log.info("card_saved", account_id=str(setup.account_id), card_id=str(card_id))
        return True

    async def _decide_in(self, tx: Session, account_id: UUID, now: datetime) -> None:
        """Decide about a refill soon: another card pays it now."""
        settings = await settings_queries.find_settings_in(tx, account_id)
        if settings is not None and settings.enabled:
            await self._refills.decide_soon(tx, account_id, now)

    async def save_stale(self, now: datetime) -> int:
        """Look at the pages whose event did not arrive. Return the number of cards. For the worker."""
        async with self._db.read() as db:
            stale = await queries.list_stale_setups(db, now - LOOKED_AT_AFTER, AT_ONCE)
        saved = 0
        for account_id, setup_id in stale:
            try:
                async with self._db.transaction() as tx:
                    await queries.touch_setup(tx, account_id, setup_id, now)
                saved += await self.save(account_id, setup_id, now)
            except Exception as error:  # one page must stop neither the others nor the refills
                log.warning("card_page_not_read", setup_id=str(setup_id), exc_info=error)
        return saved

    async def _end(self, setup: Setup, now: datetime) -> None:
        async with self._db.transaction() as tx:
            await queries.set_setup_status(tx, setup, "ended", now)

    async def _environment(self, account_id: UUID) -> Environment:
        async with self._db.transaction() as tx:
            return (await lock_account(tx, account_id)).environment

    # --- reading and removing ---

    async def list_of(self, account_id: UUID, now: datetime, *, refresh: bool = False) -> Sequence[Card]:
        """Return the account's saved cards, newest first. `refresh`: after looking at its open pages.

        A page that cannot be read now changes nothing.
        """
        if refresh:
            async with self._db.read() as db:
                setups = await queries.find_open_setups(db, account_id)
            for setup in setups[:3]:
                try:
                    await self.save(account_id, setup.setup_id, now)
                except PaymentProviderError as error:
                    log.warning("card_page_not_read", setup_id=str(setup.setup_id), exc_info=error)
        async with self._db.read() as db:
            return await queries.list_cards(db, account_id)

    async def remove(self, account_id: UUID, card_id: UUID, now: datetime) -> None:
        """As `remove_in`, in a transaction."""
        async with self._db.transaction() as tx:
            await self.remove_in(tx, account_id, card_id, now)

    async def remove_in(self, tx: Session, account_id: UUID, card_id: UUID, now: datetime) -> Card:
        """Remove a card here, and soon at Stripe. Return it as it was. Locks the account. Raises CardNotFound.

        A payment that was sent before is not stopped. If it was the primary card, refills wait for another one.
        """
        await lock_account(tx, account_id)
        card = await queries.find_card(tx, account_id, card_id)
        if card is None or not await self._remove_in(tx, account_id, card_id, now):
            raise CardNotFound
        return card

    async def _remove_in(self, tx: Session, account_id: UUID, card_id: UUID, now: datetime) -> bool:
        if not await queries.remove_card(tx, account_id, card_id, now):
            return False
        await defer(tx, DETACH_CARD, {"account_id": str(account_id), "card_id": str(card_id)}, now)
        return True

    async def make_primary(self, account_id: UUID, card_id: UUID, now: datetime) -> Card:
        """Let a card pay refills from now on. Return it. Locks the account. Raises CardNotFound."""
        async with self._db.transaction() as tx:
            await lock_account(tx, account_id)
            card = await queries.find_card(tx, account_id, card_id)
            if card is None or card.removed_at is not None:
                raise CardNotFound
            await queries.make_primary(tx, account_id, card_id)
            await self._decide_in(tx, account_id, now)
        return replace(card, is_primary=True)

    async def detach_soon(self, account_id: UUID, now: datetime) -> None:
        """Enqueue the removal of all cards at Stripe, after an erasure has removed them here."""
        async with self._db.transaction() as tx:
            for card_id in await queries.list_removed(tx, account_id):
                await defer(tx, DETACH_CARD, {"account_id": str(account_id), "card_id": str(card_id)}, now)

    async def detach(self, account_id: UUID, card_id: UUID) -> None:
        """Remove a removed card at Stripe. Idempotent. Raises PaymentProviderUnavailable."""
        async with self._db.read() as db:
            card = await queries.find_card(db, account_id, card_id)
        if card is None or card.removed_at is None:
            return
        try:
            await self._stripe.detach(await self._environment(account_id), card.provider_method_id)
        except PaymentNotFound:
            log.info("card_is_gone", card_id=str(card_id))
