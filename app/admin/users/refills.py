"""`/admin/users/{account_id}/refills`, `/auto-refill` and `/cards`: automatic refills and saved cards of an account."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.admin.dependencies import Db, Support, Viewer
from app.admin.schemas import Reason, ReasonBody
from app.admin.users.router import CHANGE, NOT_FOUND, find_user, require_anonymous
from app.auth.guarded_route import GuardedRoute
from app.http.schemas import ERRORS, Reply
from app.ledger.money import decimal_text
from app.ledger.refill_queries import Settings
from app.refills.dependencies import Cards, Refills
from app.refills.schemas import AutoRefill, AutoRefillBody, AutoRefillReply, CardReply, RefillReply, RemovedReply

router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=GuardedRoute)


class AccountRefillsReply(Reply):
    """Refills are newest first; the payment of each is the purchase with the same id."""

    auto_refill: AutoRefill
    cards: list[CardReply]
    refills: list[RefillReply]
    next_cursor: UUID | None


class AccountAutoRefillBody(AutoRefillBody):
    reason: Reason


@router.get("/{account_id}/refills", responses=NOT_FOUND)
async def list_account_refills(
    account_id: UUID,
    admin: Viewer,
    db: Db,
    refills: Refills,
    cards: Cards,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> AccountRefillsReply:
    """Return the account's settings of automatic refills, its saved cards, and its refills with their outcomes."""
    user = await find_user(db, account_id)
    found = await refills.list_refills(account_id, before=cursor, limit=limit + 1)
    return AccountRefillsReply(
        auto_refill=AutoRefillReply.of(
            await refills.overview(account_id, user["currency"], admin.now), admin.now
        ).auto_refill,
        cards=[CardReply.of(card) for card in await cards.list_of(account_id, admin.now)],
        refills=[RefillReply.of(refill) for refill in found[:limit]],
        next_cursor=found[limit - 1].purchase_id if len(found) > limit else None,
    )


@router.put("/{account_id}/auto-refill", responses=CHANGE)
async def set_account_auto_refill(
    account_id: UUID, body: AccountAutoRefillBody, admin: Support, db: Db, refills: Refills
) -> AutoRefillReply:
    """Set automatic refills for the user, within the operator's bounds. The card has to be the user's own."""
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    await refills.require_finished_upgrade()
    async with db.transaction() as tx:
        before, after = await refills.set_in(tx, account_id, body.requested, admin.now)
        await admin.record(
            tx,
            "account.set_refills",
            "account",
            account_id,
            environment=user["environment"],
            before=None if before is None else _facts(before),
            after=_facts(after),
            reason=body.reason,
        )
    return AutoRefillReply.of(await refills.overview(account_id, user["currency"], admin.now), admin.now)


@router.post("/{account_id}/cards/{card_id}/remove", responses=CHANGE)
async def remove_account_card(
    account_id: UUID, card_id: UUID, body: ReasonBody, admin: Support, db: Db, cards: Cards
) -> RemovedReply:
    """Remove a saved card of the user, here and at Stripe. Refills wait for another primary card."""
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    async with db.transaction() as tx:
        card = await cards.remove_in(tx, account_id, card_id, admin.now)
        await admin.record(
            tx,
            "account.remove_card",
            "account",
            account_id,
            environment=user["environment"],
            before={"card_id": card_id, "is_primary": card.is_primary},
            after={"removed_at": admin.now},
            reason=body.reason,
        )
    return RemovedReply(removed=True)


def _facts(settings: Settings) -> dict[str, object]:
    cap = settings.monthly_cap_nanos
    return {
        "enabled": settings.enabled,
        "trigger_below": decimal_text(settings.trigger_below_nanos),
        "amount": decimal_text(settings.amount_nanos),
        "monthly_cap": None if cap is None else decimal_text(cap),
    }
