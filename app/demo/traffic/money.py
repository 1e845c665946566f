"""The users who pay with money: top-ups, grants, metered usage and recorded work. Pure, like the rest of the story.

It has a separate random generator, so that it changes nothing else in the story. A user's balance is an estimate: the
services decide what is charged, refused and owed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from app.demo.price_books import PRICES
from app.demo.traffic.events import Charged, Event, GrantGiven, Metered, MoneyPaid, Worked
from app.demo.traffic.people import Agent, Person
from app.ledger.money import NANOS_PER_UNIT
from app.metering.attribution import Attribution
from app.metering.events import UsageEvent
from app.pricing.usage import ApiCalls, Compute, LlmTokens, TokenClass, Usage

SEED = 21
ROUTER, TOOL_SERVER = "LLM router", "Tool server"
"""The keys that report. The first one refuses usage that cannot be paid; the second one records it as debt."""
ROUTER_SOURCE, TOOLS_SOURCE = "llm-router", "tool-server"
EVERY = 2
"""One in so many users of the web and the API pays with money."""
DOLLAR: int = NANOS_PER_UNIT
CENT = DOLLAR // 100
MODELS: dict[str, tuple[tuple[str, str, int], ...]] = {
    "scout": (("anthropic", "claude-3-5-sonnet", 6), ("anthropic", "claude-3-haiku", 3), ("openai", "gpt-4o", 2)),
    "sage": (("openai", "gpt-4o", 6), ("openai", "gpt-4o-mini", 4), ("mistral", "mistral-large-2", 1)),
    "datum": (("google", "gemini-1.5-pro", 5), ("google", "gemini-1.5-flash", 3), ("anthropic", "claude-3-opus", 1)),
}
"""The models of each agent: provider, name, weight. No price book knows Mistral's."""
QUERIES = (
    "precedents on late delivery",
    "notice periods in Berlin",
    "interest on overdue invoices",
    "liability of a carrier",
    "court fees for small claims",
)
REFUSALS = 2
"""Attempts without money after which a user gives up."""


@dataclass(slots=True)
class Purse:
    """One user's money."""

    rng: Random
    person: Person
    until: datetime
    balance: int = 0
    """Estimated, in nanos."""
    refusals: int = 0

    def events(self, charged: Sequence[Charged], *, poor: bool, expiring: bool) -> Iterator[Event]:
        """Generate events beside these interactions, in the order of time."""
        rng, arrived = self.rng, self.person.arrived
        yield self._grant(arrived + timedelta(seconds=8), 20 * CENT if poor else DOLLAR, "signup", days=14)
        if not poor and rng.random() < 0.7:
            yield self._pay(arrived + timedelta(seconds=40))
        if expiring:
            given = max(self.until - timedelta(days=9), arrived + timedelta(seconds=50))
            yield self._grant(given, 3 * DOLLAR, "promotion", days=13)
        for event in charged:
            if rng.random() < 0.5:
                yield from self._interact(event, poor=poor)

    def _grant(self, at: datetime, nanos: int, source: str, *, days: int) -> GrantGiven:
        self.balance += nanos
        return GrantGiven(at, self.person.identity, nanos, "promotional", 10, source, at + timedelta(days=days))

    def _pay(self, at: datetime) -> MoneyPaid:
        nanos = self.rng.choices((10, 20, 50), [5, 3, 1])[0] * DOLLAR
        self.balance += nanos
        self.refusals = 0
        return MoneyPaid(at, self.person.identity, nanos, "Top-up by invoice")

    def _interact(self, event: Charged, *, poor: bool) -> Iterator[Event]:
        """Generate the usage of one interaction: a model's, and at times a tool's or a recorded search."""
        rng, agent = self.rng, self.person.agent
        at, run_id = event.at + timedelta(milliseconds=300), f"run-{event.message_id[4:]}"
        if self.balance <= 0:
            if not poor and self.person.buys and rng.random() < 0.5:
                yield self._pay(at - timedelta(milliseconds=100))
            elif self.refusals >= REFUSALS:
                if rng.random() < 0.4:  # the tool server continues, and the user owes it
                    yield self._run_code(at, run_id)
                return
            else:
                self.refusals += 1
        yield self._metered(at, ROUTER, _call(rng, agent), Attribution(agent.agent_id, run_id=run_id))
        form = rng.random()
        later = at + timedelta(milliseconds=700)
        if form < 0.18:
            calls = ApiCalls("/search", rng.randint(20, 400))
            yield self._metered(later, TOOL_SERVER, calls, Attribution(agent.agent_id, "web_search", run_id))
        elif form < 0.26:
            yield self._run_code(later, run_id)
        elif form < 0.36:
            found = ApiCalls("/precedents", rng.randint(1, 12))
            parts: tuple[Usage, ...] = (_call(rng, agent), found, _call(rng, agent))
            self.balance -= sum(map(_estimate, parts))
            request_id = f"search-{event.message_id[4:]}"
            yield Worked(
                later,
                self.person.identity,
                request_id,
                "legal_search",
                rng.choice(QUERIES),
                agent.agent_id,
                parts,
                succeeded=rng.random() < 0.85,
            )

    def _run_code(self, at: datetime, run_id: str) -> Metered:
        hours = Decimal(self.rng.randint(1, 18)) / 4
        attribution = Attribution(self.person.agent.agent_id, "code_runner", run_id)
        return self._metered(at, TOOL_SERVER, Compute(hours, 2 * hours), attribution)

    def _metered(self, at: datetime, key_name: str, usage: Usage, attribution: Attribution) -> Metered:
        self.balance -= _estimate(usage)
        source = ROUTER_SOURCE if key_name == ROUTER else TOOLS_SOURCE
        event_id = f"{attribution.run_id}-{usage.meter}"
        event = UsageEvent(source, event_id, usage, occurred_at=at, attribution=attribution, service_name=source)
        return Metered(at, self.person.identity, event, key_name)


def _call(rng: Random, agent: Agent) -> LlmTokens:
    """Return the tokens of a call, with some of the input from the cache."""
    provider, model, _ = rng.choices(models := MODELS[agent.agent_id], [weight for *_, weight in models])[0]
    prompt, cached = int(rng.triangular(800, 30_000, 6_000)), rng.choice((0, 0, 0.4, 0.8))
    tokens: dict[TokenClass, int] = {
        "input_uncached": prompt - int(prompt * cached),
        "output_text": int(rng.triangular(60, 2_400, 500)),
    }
    if cached:
        tokens["cache_read"] = int(prompt * cached)
    return LlmTokens(provider, model, tokens)


def _estimate(usage: Usage) -> int:
    if not isinstance(usage, LlmTokens):
        return CENT
    per_input, per_output = PRICES.get(usage.model, (100, 300))
    into = sum(count for name, count in usage.tokens.items() if name != "output_text")
    return (into * per_input + usage.tokens["output_text"] * per_output) * CENT // 1_000_000


def spend(people: Sequence[tuple[Person, Sequence[Event]]], until: datetime) -> list[Event]:
    """Return the events of the users who pay with money. `people` are live users, with the rest of their story."""
    rng = Random(SEED)
    found: list[Event] = []
    metered = [
        (person, [event for event in story if isinstance(event, Charged)])
        for person, story in [one for one in people if one[0].agent.agent_id in MODELS][::EVERY]
    ]
    metered.sort(key=lambda one: len(one[1]), reverse=True)
    for rank, (person, charged) in enumerate(metered):
        found += Purse(rng, person, until).events(charged, poor=rank % 6 == 1, expiring=rank % 4 == 0)
    return found
