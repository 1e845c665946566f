"""Replays the story with the services, window by window. Events that were replayed before are skipped."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

import httpx
import stripe
from sqlalchemy import text

from app.accounts.directory import Identity
from app.auth.api_keys.last_used import LastUsed
from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.demo.stripe.cards import BUYERS_PREFIX, check_digit
from app.demo.traffic.events import (
    Adjusted,
    Bought,
    Charged,
    Credited,
    Disputed,
    DisputeLost,
    Event,
    GrantGiven,
    Metered,
    MoneyPaid,
    ProfileSet,
    Refunded,
    Reported,
    StatusSet,
    ToolUsed,
    Worked,
)
from app.demo.traffic.office import LLM_KEY, TOOLS_KEY, Office, Step
from app.demo.traffic.past import Past, at
from app.demo.traffic.people import AGENTS
from app.demo.traffic.spending import Spending, known_usage
from app.demo.traffic.story import write_story
from app.ledger.pools import Credits
from app.metering.llm_usage import record_llm_usage
from app.payments import queries
from app.payments.purchase import Purchase
from app.tools.service import ToolChargeRequest

Kind = TypeVar("Kind", bound=Event)
WINDOW_S = 6 * 3600
"""Charges within one window share transactions; an account's last activity has this precision."""
AT_ONCE = 4
TEST_KEY, BONUS_KEY = "Continuous integration", "Referral programme"


@dataclass(slots=True)
class Replayer:
    past: Past
    office: Office
    accounts: dict[Identity, UUID] = field(default_factory=dict)
    keys: dict[tuple[str, str], list[tuple[datetime, str]]] = field(default_factory=dict)
    reported: frozenset[tuple[UUID, datetime]] = frozenset()
    known: frozenset[tuple[UUID, str]] = frozenset()
    """Usage events that were replayed before."""
    used: dict[str, list[datetime]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def window(self, events: Sequence[Event]) -> None:
        """Replay each account's events in order; different accounts concurrently."""
        queues: dict[Identity, deque[Event]] = {}
        for event in events:
            if not isinstance(event, Reported):
                queues.setdefault(event.identity, deque()).append(event)
        while queues:
            charges: list[Charged] = []
            uses: list[ToolUsed] = []
            metered: list[list[Metered]] = []
            others: list[Event] = []
            for queue in queues.values():
                if isinstance(queue[0], Charged):
                    charges += _take(queue, Charged)
                elif isinstance(queue[0], ToolUsed):
                    uses += _take(queue, ToolUsed)
                elif isinstance(queue[0], Metered):
                    metered.append(_take(queue, Metered))
                else:
                    others.append(queue.popleft())
            await asyncio.gather(
                self._charge(charges), self._use(uses), *map(self._meter, metered), *map(self._do, others)
            )
            queues = {identity: queue for identity, queue in queues.items() if queue}
        await asyncio.gather(*(self._do(event) for event in events if isinstance(event, Reported)))

    def _actor(self, event: Event, name: str) -> Actor:
        """Return the API key that was in use at the event's time."""
        environment = event.identity.environment
        ids = self.keys[environment, name if environment == "live" else TEST_KEY]
        key_id = next(key_id for since, key_id in ids if since <= event.at)
        self.used.setdefault(key_id, []).append(event.at)
        return Actor("api_key", key_id)

    async def _charge(self, events: Sequence[Charged]) -> None:
        if not events:
            return
        requests = [
            ChargeRequest(
                account_id=self.accounts[event.identity],
                amount_minor=100,
                currency=None,
                actor=self._actor(event, event.key_name),
                at=event.at,
                idempotency_key=event.message_id,
                description=f"Interaction with {event.agent_id}",
                details={
                    "message_id": event.message_id,
                    "agent_id": event.agent_id,
                    "channel_id": event.channel_id,
                    "request_id": event.message_id.replace("msg", "req"),
                },
            )
            for event in events
        ]
        for outcome in await self.past.billing.charge_many(requests):
            self.outcomes[f"charge {type(outcome).__name__}"] += 1

    async def _use(self, events: Sequence[ToolUsed]) -> None:
        if not events:
            return
        requests = [
            ToolChargeRequest(
                account_id=self.accounts[event.identity],
                product_type=event.product_type,
                product=self.past.settings.products[event.product_type],
                actor=self._actor(event, TOOLS_KEY),
                at=event.at,
                idempotency_key=event.request_id,
                request_id=event.request_id,
            )
            for event in events
        ]
        for outcome in await self.past.tools.charge_many(requests):
            self.outcomes[f"tool {type(outcome).__name__}"] += 1

    @property
    def _spending(self) -> Spending:
        return Spending(self.past, self._actor, self.known)

    async def _meter(self, events: Sequence[Metered]) -> None:
        """Report one account's usage."""
        async with self.turns:
            for outcome in await self._spending.report(self.accounts[events[0].identity], events):
                self.outcomes[f"usage {outcome}"] += 1

    async def _do(self, event: Event) -> None:
        async with self.turns:
            with at(event.at):
                await self._now(event)
        self.outcomes[type(event).__name__] += 1

    async def _now(self, event: Event) -> None:
        past = self.past
        if isinstance(event, ProfileSet):
            actor = self._actor(event, AGENTS[0].key_name)
            self.accounts[event.identity] = await past.billing.accounts.directory.resolve(
                event.identity, event.profile, actor, event.at
            )
            return
        account_id = self.accounts[event.identity]
        match event:
            case Reported(report=report):
                self._actor(event, LLM_KEY)
                if (account_id, event.at) not in self.reported:
                    await record_llm_usage(past.db, account_id, report, event.at)
            case Credited():
                await self._credit(event, account_id)
            case Bought():
                await self._buy(event, account_id)
            case Refunded():
                purchase, payment_id = await self._paid(account_id, event.purchase)
                await self.office.refund(account_id, purchase.purchase_id, event.amount_minor, event.reason)
                await past.deliver(event.identity.environment, payment_id)
            case Disputed() | DisputeLost():
                await self._dispute(event, account_id)
            case StatusSet():
                await self.office.set_status(event, account_id)
            case Adjusted():
                await self.office.adjust(event, account_id)
            case GrantGiven():
                await self._spending.give(event, account_id)
            case MoneyPaid():
                await self._spending.pay(event, account_id)
            case Worked():
                await self._spending.work(event, account_id)

    async def _credit(self, event: Credited, account_id: UUID) -> None:
        await self.past.billing.credit(
            account_id,
            credits=Credits(event.credits),
            currency=None,
            transaction_type=event.transaction_type,
            actor=self._actor(event, BONUS_KEY),
            now=event.at,
            description=event.description,
            idempotency_key=f"{event.transaction_type} {event.at.isoformat()}",
        )

    async def _purchase(self, account_id: UUID, name: str) -> Purchase:
        async with self.past.db.read() as session:
            purchase = await queries.find_purchase_by_key(session, account_id, "key", name)
        assert purchase is not None, name
        return purchase

    async def _paid(self, account_id: UUID, name: str) -> tuple[Purchase, str]:
        """Return a purchase that was opened at Stripe, and the id of its payment."""
        purchase = await self._purchase(account_id, name)
        assert purchase.provider_payment_id is not None, name
        return purchase, purchase.provider_payment_id

    async def _buy(self, event: Bought, account_id: UUID) -> None:
        """Open the purchase, and try the cards as the buyer's browser would. The worker cancels unpaid ones."""
        environment, payments = event.identity.environment, self.past.payments
        async with self.past.db.read() as session:
            known = await queries.find_purchase_by_key(session, account_id, "key", event.name)
        payment_id = known.provider_payment_id if known is not None else None
        if payment_id is None:  # a replay for an account that was closed later
            opened = await payments.open_purchase(
                environment, account_id, now=event.at, pack=event.pack, idempotency_key=event.name
            )
            payment_id = opened.payment_id
        for number, (card, moment) in enumerate(event.attempts):
            with at(moment):
                confirm = self.past.stripe(environment).v1.payment_intents.confirm_async
                try:
                    key = f"{event.name} {number}"
                    await confirm(payment_id, _payment_method(event.identity, card), {"idempotency_key": key})
                except stripe.CardError:  # declined, as intended
                    pass
                await self.past.deliver(environment, payment_id)
        if event.given_up_at is not None:
            with at(event.given_up_at):
                purchase = await self._purchase(account_id, event.name)
                await payments.reconcile_purchase(account_id, purchase.purchase_id, event.given_up_at)
                await self.past.deliver(environment, payment_id)

    async def _dispute(self, event: Disputed | DisputeLost, account_id: UUID) -> None:
        """Withdraw the money as the buyer's bank; keep it if the dispute is lost."""
        environment = event.identity.environment
        _, payment_id = await self._paid(account_id, event.purchase)
        disputes = self.past.stripe(environment).v1.disputes
        known = (await disputes.list_async({"payment_intent": payment_id})).data
        if isinstance(event, Disputed) and not known:
            url = f"{self.past.settings.stripe_api_base}/_control/payment_intents/{payment_id}/dispute"
            headers = {"Local-Stripe-Time": str(int(event.at.timestamp()))}
            async with httpx.AsyncClient() as http:
                (await http.post(url, json={}, headers=headers)).raise_for_status()
        if isinstance(event, DisputeLost) and known[0].status == "needs_response":
            await disputes.close_async(known[0].id)
        await self.past.deliver(environment, payment_id)


def _payment_method(identity: Identity, card: str) -> Any:
    """Return the browser's payment method. A card that succeeds is unique to the buyer."""
    if card != "pm_card_visa":
        return {"payment_method": card}
    person = int(sha256(f"{identity.oauth_provider} {identity.external_id}".encode()).hexdigest(), 16)
    digits = f"{BUYERS_PREFIX}{person % 10**7:07}"
    return {"payment_method_data": {"type": "card", "card": {"number": digits + check_digit(digits)}}}


def _take(queue: deque[Event], kind: type[Kind]) -> list[Kind]:
    """Take the next events while they are of this kind."""
    taken: list[Kind] = []
    while queue and isinstance(event := queue[0], kind):
        taken.append(event)
        queue.popleft()
    return taken


def windows(events: Sequence[Event]) -> Iterator[list[Event]]:
    for _, chunk in groupby(events, key=lambda event: event.at.timestamp() // WINDOW_S):
        yield list(chunk)


async def replay(
    past: Past, until: datetime, live_people: int, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Replay everything, and return the number of each outcome. `on_progress` gets windows done and in total."""
    office = Office(past, until)
    async with past.db.read() as session:
        rows = await session.execute(text("SELECT account_id, created_at FROM llm_usage"))
        reported = frozenset((row[0], row[1]) for row in rows)
    replayer = Replayer(past, office, reported=reported, known=await known_usage(past))
    steps: deque[Step] = deque(office.steps())
    chunks = list(windows(write_story(until, past.settings, live_people)))
    for number, chunk in enumerate(chunks):
        on_progress(number, len(chunks))
        while steps and steps[0][0] < chunk[-1].at:
            moment, step = steps.popleft()
            with at(moment):
                await step()
            replayer.keys = await office.key_ids()
        await replayer.window(chunk)
    last_used = LastUsed(past.db)
    for key_id, moments in replayer.used.items():
        for moment in sorted(moments):
            last_used.note(key_id, moment)
    await last_used.flush()
    await past.unknown_models.flush()
    return dict(replayer.outcomes)
