"""Queries of refills, saved cards and consents. Those that change rows expect the account to be locked."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from uuid import UUID

from app.db.sql import sql
from app.db.statements import Tx, fetch, insert_rows, write
from app.payments.stripe_saved_cards import CardMethod
from app.refills import models
from app.refills.records import Card, Refill, RefillStatus, Setup, SetupStatus


def _names(row: type[Refill] | type[Card] | type[Setup]) -> str:
    return ", ".join(field.name for field in fields(row))


_SELECT_REFILLS = sql("SELECT {names} FROM refills", names=_names(Refill))
_FIND_REFILL = sql("{select} WHERE account_id = $1 AND purchase_id = $2", select=_SELECT_REFILLS)
_FIND_IN_FLIGHT = sql("{select} WHERE account_id = $1 AND finished_at IS NULL", select=_SELECT_REFILLS)
_LIST_REFILLS = sql(
    """
    {select} WHERE account_id = $1 AND ($2::uuid IS NULL OR purchase_id < $2) ORDER BY purchase_id DESC LIMIT $3
    """,
    select=_SELECT_REFILLS,
)
_MARK_SENT = """
    UPDATE refills SET sent_at = coalesce(sent_at, $3), updated_at = $3 WHERE account_id = $1 AND purchase_id = $2
    """
_NOTE_DECLINE = """
    UPDATE refills SET decline = $3, updated_at = $4
     WHERE account_id = $1 AND purchase_id = $2 AND finished_at IS NULL
    """
_REQUIRE_ACTION = """
    UPDATE refills SET status = 'action_required', action_url = $3, updated_at = $4
     WHERE account_id = $1 AND purchase_id = $2 AND finished_at IS NULL AND action_url IS DISTINCT FROM $3
    RETURNING purchase_id
    """
_FINISH = """
    UPDATE refills SET status = $3, finished_at = $4, updated_at = $4, action_url = NULL
     WHERE account_id = $1 AND purchase_id = $2
    """
_LIST_STUCK = """
    SELECT account_id, purchase_id FROM refills WHERE finished_at IS NULL AND updated_at < $1
     ORDER BY updated_at LIMIT $2
    """
_TOUCH_REFILL = """
    UPDATE refills SET updated_at = $3 WHERE account_id = $1 AND purchase_id = $2 AND finished_at IS NULL
    """
_SELECT_CARDS = sql("SELECT {names} FROM saved_cards", names=_names(Card))
_FIND_CARD = sql("{select} WHERE account_id = $1 AND card_id = $2", select=_SELECT_CARDS)
_FIND_PRIMARY = sql("{select} WHERE account_id = $1 AND is_primary", select=_SELECT_CARDS)
_LIST_CARDS = sql(
    "{select} WHERE account_id = $1 AND removed_at IS NULL ORDER BY card_id DESC LIMIT 100", select=_SELECT_CARDS
)
_LIST_REMOVED = "SELECT card_id FROM saved_cards WHERE account_id = $1 AND removed_at IS NOT NULL ORDER BY card_id"
_NO_PRIMARY = "UPDATE saved_cards SET is_primary = false WHERE account_id = $1 AND is_primary"
_SET_PRIMARY = "UPDATE saved_cards SET is_primary = true WHERE account_id = $1 AND card_id = $2"
_REMOVE_CARD = """
    UPDATE saved_cards SET is_primary = false, removed_at = $3
     WHERE account_id = $1 AND card_id = $2 AND removed_at IS NULL RETURNING card_id
    """
_INSERT_CARD = """
    INSERT INTO saved_cards (account_id, card_id, consent_id, provider, provider_customer_id, provider_method_id, brand,
                             last4, expiry_month, expiry_year, is_primary, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true, $11)
        ON CONFLICT (account_id, provider, provider_method_id) DO UPDATE SET is_primary = saved_cards.removed_at IS NULL
    """
_SELECT_SETUPS = sql("SELECT {names} FROM card_setups", names=_names(Setup))
_FIND_SETUP = sql("{select} WHERE account_id = $1 AND setup_id = $2", select=_SELECT_SETUPS)
_FIND_OPEN_SETUPS = sql(
    "{select} WHERE account_id = $1 AND status = 'open' ORDER BY setup_id DESC LIMIT 100", select=_SELECT_SETUPS
)
_LIST_STALE_SETUPS = """
    SELECT account_id, setup_id FROM card_setups WHERE status = 'open' AND updated_at < $1 ORDER BY updated_at LIMIT $2
    """
_NOTE_PAGE = "UPDATE card_setups SET checkout_session_id = $3 WHERE account_id = $1 AND setup_id = $2"
_TOUCH_SETUP = """
    UPDATE card_setups SET updated_at = $3 WHERE account_id = $1 AND setup_id = $2 AND status = 'open'
    """
_SET_SETUP_STATUS = """
    UPDATE card_setups SET status = $3, updated_at = $4 WHERE account_id = $1 AND setup_id = $2 AND status = 'open'
    """
_FIND_CONSENT = "SELECT text FROM card_consents WHERE account_id = $1 AND consent_id = $2"


# --- refills ---


async def insert_refill(tx: Tx, refill: Refill) -> None:
    row = {field.name: getattr(refill, field.name) for field in fields(Refill)}
    await insert_rows(tx, models.Refill, [{**row, "updated_at": refill.created_at}])


async def find_refill(tx: Tx, account_id: UUID, purchase_id: UUID) -> Refill | None:
    rows = await fetch(tx, _FIND_REFILL, account_id, purchase_id)
    return Refill(**rows[0]) if rows else None


async def find_in_flight(tx: Tx, account_id: UUID) -> Refill | None:
    rows = await fetch(tx, _FIND_IN_FLIGHT, account_id)
    return Refill(**rows[0]) if rows else None


async def list_refills(tx: Tx, account_id: UUID, before: UUID | None, limit: int) -> Sequence[Refill]:
    """Return an account's refills, newest first."""
    return [Refill(**row) for row in await fetch(tx, _LIST_REFILLS, account_id, before, limit)]


async def mark_sent(tx: Tx, refill: Refill, now: datetime) -> None:
    await write(tx, _MARK_SENT, refill.account_id, refill.purchase_id, now)


async def note_decline(tx: Tx, refill: Refill, code: str, now: datetime) -> None:
    await write(tx, _NOTE_DECLINE, refill.account_id, refill.purchase_id, code, now)


async def require_action(tx: Tx, refill: Refill, url: str, now: datetime) -> bool:
    """Store the page on which the user authenticates the payment. Return False if it is stored already."""
    return bool(await fetch(tx, _REQUIRE_ACTION, refill.account_id, refill.purchase_id, url, now))


async def finish(tx: Tx, refill: Refill, status: RefillStatus, now: datetime) -> None:
    await write(tx, _FINISH, refill.account_id, refill.purchase_id, status, now)


async def list_stuck(tx: Tx, until: datetime, limit: int) -> Sequence[tuple[UUID, UUID]]:
    """Return refills in flight that nothing has changed since `until`: accounts and purchases."""
    return [(row["account_id"], row["purchase_id"]) for row in await fetch(tx, _LIST_STUCK, until, limit)]


async def touch_refill(tx: Tx, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
    """Note that a refill in flight was looked at, so that others come first."""
    await write(tx, _TOUCH_REFILL, account_id, purchase_id, now)


# --- cards ---


async def find_card(tx: Tx, account_id: UUID, card_id: UUID) -> Card | None:
    rows = await fetch(tx, _FIND_CARD, account_id, card_id)
    return Card(**rows[0]) if rows else None


async def find_primary(tx: Tx, account_id: UUID) -> Card | None:
    """Return the card that pays the account's refills."""
    rows = await fetch(tx, _FIND_PRIMARY, account_id)
    return Card(**rows[0]) if rows else None


async def list_cards(tx: Tx, account_id: UUID) -> Sequence[Card]:
    """Return an account's cards that were not removed, newest first."""
    return [Card(**row) for row in await fetch(tx, _LIST_CARDS, account_id)]


async def list_removed(tx: Tx, account_id: UUID) -> Sequence[UUID]:
    """Return the ids of an account's removed cards."""
    return [row["card_id"] for row in await fetch(tx, _LIST_REMOVED, account_id)]


async def insert_card(tx: Tx, card_id: UUID, setup: Setup, method: CardMethod, now: datetime) -> None:
    """Store a card as the primary one. A card that was removed stays removed."""
    await write(tx, _NO_PRIMARY, setup.account_id)
    details = (method.method_id, method.brand, method.last4, method.expiry_month, method.expiry_year)
    ids = (setup.account_id, card_id, setup.consent_id, setup.provider, setup.provider_customer_id)
    await write(tx, _INSERT_CARD, *ids, *details, now)


async def make_primary(tx: Tx, account_id: UUID, card_id: UUID) -> None:
    await write(tx, _NO_PRIMARY, account_id)
    await write(tx, _SET_PRIMARY, account_id, card_id)


async def remove_card(tx: Tx, account_id: UUID, card_id: UUID, now: datetime) -> bool:
    """Return False if there is no such card, or it was removed before."""
    return bool(await fetch(tx, _REMOVE_CARD, account_id, card_id, now))


# --- pages that save cards ---


async def insert_consent(
    tx: Tx, account_id: UUID, consent_id: UUID, text: str, address: str | None, now: datetime
) -> None:
    names = ("account_id", "consent_id", "text", "address", "actor_type", "given_at")
    row = dict(zip(names, (account_id, consent_id, text, address, "user", now), strict=True))
    await insert_rows(tx, models.CardConsent, [row])


async def find_consent_text(tx: Tx, account_id: UUID, consent_id: UUID) -> str | None:
    rows = await fetch(tx, _FIND_CONSENT, account_id, consent_id)
    return rows[0]["text"] if rows else None


async def insert_setup(tx: Tx, setup: Setup) -> None:
    row = {field.name: getattr(setup, field.name) for field in fields(Setup)}
    await insert_rows(tx, models.CardSetup, [{**row, "updated_at": setup.created_at}])


async def find_setup(tx: Tx, account_id: UUID, setup_id: UUID) -> Setup | None:
    rows = await fetch(tx, _FIND_SETUP, account_id, setup_id)
    return Setup(**rows[0]) if rows else None


async def find_open_setups(tx: Tx, account_id: UUID) -> Sequence[Setup]:
    """Return an account's open pages, newest first."""
    return [Setup(**row) for row in await fetch(tx, _FIND_OPEN_SETUPS, account_id)]


async def list_stale_setups(tx: Tx, until: datetime, limit: int) -> Sequence[tuple[UUID, UUID]]:
    """Return open pages that were not looked at since `until`: accounts and setups."""
    return [(row["account_id"], row["setup_id"]) for row in await fetch(tx, _LIST_STALE_SETUPS, until, limit)]


async def touch_setup(tx: Tx, account_id: UUID, setup_id: UUID, now: datetime) -> None:
    """Note that an open page was looked at, so that others come first."""
    await write(tx, _TOUCH_SETUP, account_id, setup_id, now)


async def note_page(tx: Tx, setup: Setup, session_id: str) -> None:
    await write(tx, _NOTE_PAGE, setup.account_id, setup.setup_id, session_id)


async def set_setup_status(tx: Tx, setup: Setup, status: SetupStatus, now: datetime) -> None:
    await write(tx, _SET_SETUP_STATUS, setup.account_id, setup.setup_id, status, now)
