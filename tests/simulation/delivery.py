"""Delivery of Stripe's events: reordered, repeated, late, or lost, by a seed."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from uuid import UUID

from app.demo.stripe.account import Account
from app.demo.stripe.objects import Object
from app.demo.stripe.versions import VERSIONS, rendered
from app.payments.facts import Stated
from app.payments.stripe_events import parse_event

LOST, LATE, OUTAGE = 0.03, 0.1, 0.04
"""Shares of events, and of a customer's quarters in which no event arrives."""
MONEY_BACK = ("refund.", "charge.dispute.", "charge.refund")


@dataclass(frozen=True)
class Sent:
    """An event: its facts, and its text if it is to be delivered as a webhook."""

    facts: Stated
    is_money_back: bool
    event: Object | None


@dataclass
class Counts:
    events: int = 0
    repeated: int = 0
    late: int = 0
    lost: int = 0
    webhooks: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass
class Delivery:
    """Delivers one customer's events from Stripe to the service."""

    account_id: UUID
    dice: random.Random
    version: str
    by_webhook: bool
    sent: list[Sent] = field(default_factory=list)
    """Events of this quarter, in order."""
    sent_in_order: list[Sent] = field(default_factory=list)
    """Events that the service with complete deliveries has not received yet, in order."""
    late: list[Sent] = field(default_factory=list)
    troubled: int = 0
    """Quarters in which the service has to read missing facts from Stripe."""

    def publish(self, account: Account, event: Object) -> None:
        """Keep an event that the service handles. It leaves the log of Stripe, which nothing reads here."""
        parsed = parse_event(rendered(account, event, self.version))
        if parsed.facts is not None:
            shown = rendered(account, event, self.version) if self.by_webhook else None
            self.sent.append(Sent(parsed.facts, parsed.type.startswith(MONEY_BACK), shown))
        del account.objects["event"][event["id"]]

    def shaken(self, counts: Counts, *, is_last: bool) -> list[Sent]:
        """Return the events that arrive this quarter, in the order of arrival."""
        sent, dice = self.sent, self.dice
        self.sent = []
        self.sent_in_order += sent
        counts.events += len(sent)
        is_out = dice.random() < OUTAGE
        arrived = [one for one in sent if not is_out and dice.random() >= LOST]
        counts.lost += len(sent) - len(arrived)
        late = [] if is_last else [one for one in arrived if dice.random() < LATE]
        counts.late += len(late)
        on_time = [one for one in arrived if not _is_in(one, late)] + self.late
        repeated = dice.sample(on_time, len(on_time) // 2)
        counts.repeated += len(repeated)
        self.late = late
        self.troubled = max(self.troubled - 1, 0)
        if len(arrived) < len(sent) or any(one.is_money_back for one in sent):
            self.troubled = 2
        on_time += repeated
        dice.shuffle(on_time)
        return on_time


def _is_in(one: Sent, several: Iterable[Sent]) -> bool:
    return any(one is other for other in several)


def version_for(dice: random.Random) -> str:
    return dice.choice(VERSIONS)
