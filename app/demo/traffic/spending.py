"""Replays the events of money: grants, top-ups, metered usage and recorded work."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from app.auth.caller import Actor
from app.cost_records.records import Addition, Completion, Done, Item, Opening, Request, digest
from app.demo.traffic.events import Event, GrantGiven, Metered, MoneyPaid, Worked
from app.demo.traffic.money import DOLLAR, ROUTER, TOOL_SERVER, TOOLS_SOURCE
from app.demo.traffic.past import Past, at
from app.ledger.entries import Kind
from app.metering.events import Terms
from app.wallet.service import NewGrant

MONEY_KEY = "Accounting"
DEBT_LIMIT = 5 * DOLLAR
PART_TAKES = timedelta(seconds=1)
ActorOf = Callable[[Event, str], Actor]


@dataclass(frozen=True, slots=True)
class Spending:
    """`known`: the usage that was replayed before. It is skipped, because a refused event may be sent again."""

    past: Past
    actor_of: ActorOf
    known: frozenset[tuple[UUID, str]]

    async def report(self, account_id: UUID, events: Sequence[Metered]) -> list[str]:
        """Report usage of one account, each key's events in their order. Return the kinds of the outcomes."""
        outcomes = []
        for key_name in (ROUTER, TOOL_SERVER):
            fresh = [
                event
                for event in events
                if event.key_name == key_name and (account_id, event.usage.event_id) not in self.known
            ]
            if fresh:
                last = fresh[-1]
                actor = self.actor_of(last, key_name)
                terms = Terms(actor, last.at) if key_name == ROUTER else Terms(actor, last.at, "debt", DEBT_LIMIT)
                found = await self.past.usage.record(account_id, [event.usage for event in fresh], terms)
                outcomes += [type(outcome).__name__ for outcome in found]
        return outcomes

    async def give(self, event: GrantGiven, account_id: UUID) -> None:
        grant = NewGrant(
            event.nanos,
            money=True,
            priority=event.priority,
            category=event.category,
            source=event.source,
            expires_at=event.expires_at,
        )
        await self.past.wallet.give_grant(
            account_id, grant, actor=self.actor_of(event, MONEY_KEY), now=event.at, idempotency_key=event.source
        )

    async def pay(self, event: MoneyPaid, account_id: UUID) -> None:
        await self.past.wallet.credit_money(
            account_id,
            event.nanos,
            Kind.PURCHASE,
            currency=None,
            actor=self.actor_of(event, MONEY_KEY),
            now=event.at,
            description=event.description,
            idempotency_key=f"invoice {event.at.isoformat()}",
        )

    async def work(self, event: Worked, account_id: UUID) -> None:
        """Open a record, add its parts, and settle it. An account that is closed by then does not begin."""
        actor, moment = self.actor_of(event, TOOL_SERVER), event.at
        opened = await self._run(
            Opening(
                account_id=account_id,
                environment=event.identity.environment,
                client_key=b"",
                request_id=event.request_id,
                tool=event.tool,
                query=event.query,
                agent_id=event.agent_id,
                run_id=None,
                estimate=None,
                expires_in=timedelta(hours=1),
                on_expiry="charge_reported",
                currency="USD",
                source=TOOLS_SOURCE,
                actor=actor,
                at=moment,
                fingerprint=digest(event.request_id),
            )
        )
        if opened is None:
            return
        for number, usage in enumerate(event.parts, start=1):
            moment += PART_TAKES
            item = Item(f"part-{number}", usage, None, None)
            books = await self.past.prices.in_force([moment])
            terms = Terms(actor, moment)
            await self._run(
                Addition(account_id, event.identity.environment, opened.record.record_id, item, terms, books, {})
            )
        moment += PART_TAKES
        await self._run(
            Completion(
                account_id=account_id,
                environment=event.identity.environment,
                record_id=opened.record.record_id,
                status="completed" if event.succeeded else "failed",
                execution_time_ms=int((moment - event.at) / timedelta(milliseconds=1)),
                error_message=None if event.succeeded else "TimeoutError",
                actor=actor,
                at=moment,
            )
        )

    async def _run(self, request: Request) -> Done | None:
        with at(request.at):
            outcome = await self.past.records.run(request)
        return outcome if isinstance(outcome, Done) else None


async def known_usage(past: Past) -> frozenset[tuple[UUID, str]]:
    """Return the usage events that were replayed before, with their accounts."""
    async with past.db.read() as session:
        rows = await session.execute(text("SELECT account_id, event_id FROM usage_events"))
        return frozenset((row[0], row[1]) for row in rows)
