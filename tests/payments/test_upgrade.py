"""The revision of refunds by id, upon books that the version before it wrote: no credit is lost or doubled."""

import re
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.verification import verify_books
from tests.books import connected
from tests.databases import ROOT, Urls, alembic
from tests.payments.conftest import Shop
from tests.payments.test_history import CREDITS, PRICE, History
from tests.support.earlier_version import Connection, insert, verification_before

AT = datetime(2026, 11, 1, tzinfo=UTC)
VERIFICATION = verification_before("0021")


@dataclass(frozen=True)
class OldPurchase:
    """A purchase as the version before wrote it. `received` False: its refunds and disputes overtook the payment."""

    refunded_minor: int = 0
    credits_refunded: int = 0
    credits_disputed: int = 0
    dispute: str | None = None
    received: bool = True
    review_reason: str | None = None
    account_id: UUID = field(default_factory=uuid.uuid4)

    @property
    def payment_id(self) -> str:
        return f"pi_{self.account_id.hex}"

    @property
    def movements(self) -> list[tuple[int, str]]:
        moved = [
            (CREDITS, "purchase"),
            (-self.credits_refunded, "refund_reversal"),
            (-self.credits_disputed, "dispute_reversal"),
        ]
        return [movement for movement in moved if movement[0]] if self.received else []

    async def insert(self, connection: Connection) -> None:
        purchase_id = uuid.uuid4()
        times = {"created_at": AT, "updated_at": AT}
        account = {"environment": "live", "currency": "USD", "plan_name": "free", "daily_free": 0, "free": 0, "debt": 0}
        balance = sum(credits for credits, _ in self.movements)
        entries = {"paid": balance, "total_uses": 0, "last_entry_no": len(self.movements)}
        await insert(connection, "accounts", account_id=self.account_id, **account, **entries, **times)
        credit_ids = await self._insert_credits(connection)
        sale = {"environment": "live", "pack": "standard", "credits": CREDITS, "amount_minor": PRICE, "currency": "USD"}
        payment = {
            "payment_intent_id": self.payment_id,
            "received_minor": PRICE if self.received else None,
            "received_currency": "USD" if self.received else None,
            "status": "succeeded" if self.received else "processing",
            "status_at": AT,
            "credit_id": credit_ids[0] if self.received else None,
            "review_reason": self.review_reason,
        }
        back = {name: getattr(self, name) for name in ("refunded_minor", "credits_refunded", "credits_disputed")}
        keys = {"account_id": self.account_id, "purchase_id": purchase_id}
        await insert(connection, "purchases", **keys, **sale, **payment, **back, **times)
        if self.dispute is not None:
            dispute = {"dispute_id": "du_1", "amount_minor": PRICE, "status": self.dispute, "updated_at": AT}
            await insert(connection, "purchase_disputes", **keys, **dispute)

    async def _insert_credits(self, connection: Connection) -> list[UUID]:
        credit_ids, balance = [], 0
        for number, (credits, kind) in enumerate(self.movements, start=1):
            credit_ids.append(uuid.uuid4())
            balance += credits
            keys = {"account_id": self.account_id, "entry_no": number, "created_at": AT}
            credit = {"transaction_type": kind, "credits": credits, "currency": "USD", "paid_after": balance}
            payment = {"credit_id": credit_ids[-1], "external_transaction_id": self.payment_id}
            await insert(connection, "credits", **keys, **credit, **payment)
            moved = {"pool": "paid", "kind": kind, "delta": credits, "balance_after": balance}
            cause = {"cause_type": "credit", "cause_id": credit_ids[-1], "actor_type": "stripe", "actor_id": "stripe"}
            await insert(connection, "ledger_entries", **keys, **moved, **cause)
        return credit_ids


OLD = {
    "plain": OldPurchase(),
    "refunded": OldPurchase(refunded_minor=PRICE, credits_refunded=CREDITS),
    "refunded in part": OldPurchase(refunded_minor=125, credits_refunded=5),
    "won": OldPurchase(dispute="won"),
    "lost": OldPurchase(dispute="lost", credits_disputed=CREDITS),
    "refunded before it was paid": OldPurchase(refunded_minor=125, received=False),
    "won without room": OldPurchase(dispute="won", credits_disputed=CREDITS, review_reason="balance_limit"),
}


def revision_before(name: str) -> str:
    """Return the revision before the one whose file has this name behind its number."""
    [file] = (ROOT / "alembic" / "versions").glob(f"*_{name}.py")
    before = re.search(r'^down_revision = "(\w+)"', file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert before is not None
    return before[1]


@pytest.fixture
async def old_books(own_database: Urls) -> Urls:
    """A database of the revision before, with purchases, then upgraded."""
    alembic(own_database, "downgrade", revision_before("purchase_refunds"))
    async with connected(own_database) as connection:
        for purchase in OLD.values():
            await purchase.insert(connection)
        found = {name: await connection.fetch(sql) for name, sql in VERIFICATION["checks"].items()}
    # A won dispute without room is booked in part: the purchase and its credits agree nevertheless.
    assert {name: rows for name, rows in found.items() if rows} == {}
    alembic(own_database, "upgrade", "head")
    return own_database


async def test_upgrade_moves_no_credit_and_what_follows_is_booked_right(old_books: Urls, shop: Shop) -> None:
    verification = await verify_books(shop.db, shop.now)
    assert verification.ok, verification.problem
    histories = {name: history_of(purchase) for name, purchase in OLD.items()}
    full, part, early = (histories[name] for name in ("refunded", "refunded in part", "refunded before it was paid"))
    for history, amount in ((full, PRICE), (part, 125), (early, 125)):
        history.account.refund(history.account.charge_of(history.intent["id"]), amount, None)
    [refund] = full.account.objects["refund"].values()
    full.account.settle_refund(refund, "failed")
    second = part.account.refund(part.account.charge_of(part.intent["id"]), 125, None)
    part.account.settle_refund(second, "failed")
    expected = {
        "plain": ([], 20),
        "refunded": (["refund.failed"], 20),
        "refunded in part": (["charge.refunded", "refund.failed", "refund.created"], 15),
        "won": (["lost"], 0),
        "lost": (["won"], 20),
        "refunded before it was paid": (["payment_intent.succeeded", "refund.created"], 15),
        "won without room": (["won"], 20),
    }
    for name, (kinds, paid) in expected.items():
        history = histories[name]
        for kind in kinds:
            if kind in ("won", "lost"):
                await shop.deliver(decided(history, kind))
            for event in history.events:
                if event["type"] == kind:
                    await shop.deliver(event)
        assert await shop.balances(OLD[name].account_id) == (paid, 0), name
        for event in history.events:  # all of it once more
            await shop.deliver(event)
        assert await shop.balances(OLD[name].account_id) == (paid, 0), name


def history_of(purchase: OldPurchase) -> History:
    history = History(purchase.payment_id)
    history.account.succeed(history.intent)
    return history


def decided(history: History, outcome: str) -> dict[str, object]:
    """The decision about the dispute that the books know already."""
    dispute = history.account.open_dispute(history.intent, amount=PRICE)
    dispute["id"] = "du_1"
    history.account.close_dispute(dispute, "won" if outcome == "won" else "lost")
    [event] = [event for event in history.events if event["type"] == "charge.dispute.closed"]
    history.events[:] = [event]
    return event
