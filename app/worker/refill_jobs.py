"""Jobs of automatic refills and saved cards."""

from uuid import UUID

from procrastinate import App, RetryStrategy

from app.clock import utc_now
from app.ledger.refill_hooks import START_REFILL
from app.outbox import QUEUE
from app.payments.inbox import SAVE_CARD
from app.payments.settlement import SETTLE_REFILL
from app.refills.cards import DETACH_CARD
from app.worker.services import Services


def add_refill_jobs(queue: App, services: Services, retry: RetryStrategy) -> None:
    refilling = services.refilling

    @queue.task(name=START_REFILL, queue=QUEUE, retry=retry)
    async def start_refill(account_id: str) -> None:
        """Decide whether to refill an account's money, after spending that left too little."""
        await refilling.refills.start(UUID(account_id), utc_now())

    @queue.task(name=SETTLE_REFILL, queue=QUEUE, retry=retry)
    async def settle_refill(account_id: str, purchase_id: str) -> None:
        """Send the payment of a refill, or record its outcome."""
        await refilling.payments.settle(UUID(account_id), UUID(purchase_id), utc_now())

    @queue.task(name=SAVE_CARD, queue=QUEUE, retry=retry)
    async def save_card(account_id: str, setup_id: str) -> None:
        """Store the card that a user has saved on a page of Stripe."""
        await refilling.cards.save(UUID(account_id), UUID(setup_id), utc_now())

    @queue.task(name=DETACH_CARD, queue=QUEUE, retry=retry)
    async def detach_card(account_id: str, card_id: str) -> None:
        """Remove a card at Stripe that a user has removed here."""
        await refilling.cards.detach(UUID(account_id), UUID(card_id))

    @queue.periodic(cron="*/5 * * * *")
    @queue.task(name="settle_refills", queue=QUEUE, queueing_lock="settle_refills")
    async def settle_refills(timestamp: int) -> None:
        """Continue refills and pages of cards whose jobs or events were lost."""
        now = utc_now()
        await refilling.cards.save_stale(now)
        await refilling.payments.settle_stuck(now)
        await refilling.refills.start_forgotten(now)
