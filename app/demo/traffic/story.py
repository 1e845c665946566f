"""The story: all events of all people. Pure, and always the same for the same `until`.

Each life keeps its own accounts by the services' own rules, so it plans only what the services will accept. So the
story can be replayed from the start after an interruption, and adds exactly what is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from app.accounts.directory import Profile
from app.demo.traffic.events import (
    Adjusted,
    Bought,
    Charged,
    Credited,
    Disputed,
    DisputeLost,
    Event,
    ProfileSet,
    Refunded,
    Reported,
    StatusSet,
    ToolUsed,
)
from app.demo.traffic.money import spend
from app.demo.traffic.people import LIVE_PEOPLE, Person, busyness, moment_on, people
from app.metering.llm_usage import LlmUsageReport
from app.settings import Settings
from app.tools.catalogue import free_on

SEED = 20
OPENS, CLOSES = 8, 17
"""The staff's working hours, UTC."""
GIVEN_UP_AFTER = timedelta(hours=24, minutes=7)
MODELS = {
    "meta-llama/llama-4-maverick": ("0.000020", "0.000060"),
    "openai/gpt-4o-mini": ("0.000015", "0.000060"),
    "qwen/qwen3-32b": ("0.000029", "0.000059"),
    "deepseek/deepseek-chat-v3": ("0.000027", "0.000110"),
}
"""Cents per token of prompt and completion."""
GIFTS = (
    (10, "bonus", "Referral bonus"),
    (5, "bonus", "Thank you for the survey"),
    (50, "grant", "Beta tester programme"),
)


@dataclass(slots=True)
class Life:
    """One person's story, and the credits that the person has at its current end."""

    rng: Random
    person: Person
    until: datetime
    settings: Settings
    events: list[Event] = field(default_factory=list)
    free: int = 0
    paid: int = 0
    tools: dict[str, tuple[int, date]] = field(default_factory=dict)
    ready_at: datetime = field(init=False)
    """The time of the last event; later events follow it."""

    def __post_init__(self) -> None:
        self.ready_at = self.person.arrived
        self.free = self.settings.free_uses

    @property
    def purchases(self) -> list[Bought]:
        return [event for event in self.events if isinstance(event, Bought) and event.is_paid]

    def live(self) -> None:
        """Generate events from the arrival until demand, credits or time run out."""
        rng, person = self.rng, self.person
        self.events.append(ProfileSet(person.arrived, person.identity, person.profile))
        if rng.random() < 0.06:
            credits, kind, description = rng.choice(GIFTS)
            self.after(20)
            self.events.append(Credited(self.ready_at, person.identity, credits, kind, description))
            self.paid += credits
        for at in self._interactions():
            if at <= self.ready_at:
                continue
            if self.free + self.paid == 0 and not self._buy(at):
                break
            self._interact(max(at, self.after(20)))
        if person.profile.marketing_opt_in and rng.random() < 0.2 and self._has_time(timedelta(days=1)):
            opted_out = Profile(marketing_opt_in=False, marketing_opt_in_source="link in an e-mail")
            self.events.append(ProfileSet(self.after(40_000), person.identity, opted_out))

    def after(self, seconds: float) -> datetime:
        """Return a time soon after the last event, and make it the last one."""
        self.ready_at += timedelta(seconds=self.rng.uniform(0.5, 1.0) * seconds)
        return self.ready_at

    def noticed_after(self, seconds: float) -> datetime:
        """Return a time after the last event at which the staff is at work."""
        moment = self.after(seconds)
        if not OPENS <= moment.hour < CLOSES:
            tomorrow = timedelta(days=moment.hour >= CLOSES)
            self.ready_at = moment.replace(hour=OPENS + moment.hour % (CLOSES - OPENS)) + tomorrow
        return self.ready_at

    def set_status(self, after_s: float, action: Literal["suspend", "reopen", "close"], reason: str) -> None:
        self.events.append(StatusSet(self.noticed_after(after_s), self.person.identity, action, reason))

    def _has_time(self, needed: timedelta = timedelta(minutes=10)) -> bool:
        return self.ready_at + needed < self.until

    def _interactions(self) -> list[datetime]:
        """Return the times of demand: in sessions, the first one at arrival."""
        rng, person = self.rng, self.person
        days = (self.until - person.arrived).days + 1
        midnights = [
            person.arrived.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=n) for n in range(days)
        ]
        weights = [busyness(midnight) for midnight in midnights]
        moments: list[datetime] = []
        begins = person.arrived
        while len(moments) < person.wants:
            for _ in range(min(person.wants - len(moments), 1 + int(rng.expovariate(1 / 5)))):
                begins += timedelta(seconds=15 + rng.expovariate(1 / 150))
                moments.append(begins)
            begins = moment_on(rng, rng.choices(midnights, weights)[0], person.hours_east)
        ends = self.until - timedelta(minutes=2)
        return sorted(moment for moment in moments if person.arrived < moment < ends)

    def _buy(self, at: datetime) -> bool:
        """Return whether there are credits again. A person without credits may also stop here."""
        rng, person = self.rng, self.person
        if not person.buys or rng.random() < 0.09 or at + timedelta(minutes=10) > self.until:
            return False
        self.ready_at = at
        kinds = list(self.settings.packs)
        shares = [8, 3, 0] if person.wants < 60 else [3, 5, 1] if person.wants < 200 else [1, 4, 5]
        pack = rng.choices(kinds, shares[: len(kinds)])[0]
        cards = rng.choices(
            (["pm_card_visa"], ["pm_card_chargeDeclined", "pm_card_visa"], ["pm_card_chargeDeclined"], []),
            [82, 8, 5, 5],
        )[0]
        if not self.buy(pack, cards).is_paid:
            return False
        self.paid += self.settings.packs[pack].credits
        return True

    def buy(self, pack: str, cards: Sequence[str]) -> Bought:
        """Open a purchase now, and try these cards in order."""
        at = self.ready_at
        attempts = tuple((card, self.after(90)) for card in cards)
        given_up_at = at + GIVEN_UP_AFTER if "pm_card_visa" not in cards else None
        if given_up_at is not None and given_up_at > self.until:
            given_up_at = None
        name = f"purchase-{self.rng.randrange(16**12):012x}"
        bought = Bought(at, self.person.identity, name, pack, attempts, given_up_at)
        self.events.append(bought)
        return bought

    def _interact(self, at: datetime) -> None:
        rng, person = self.rng, self.person
        self.ready_at = at
        if rng.random() < 0.17:
            for _ in range(rng.randint(1, 4)):
                self._use("web_search")
        if rng.random() < 0.025:
            self._use("image_gen")
        if self.free + self.paid == 0:
            return  # the tools used the last credit
        if self.free:
            self.free -= 1
        else:
            self.paid -= 1
        message_id = f"msg-{rng.randrange(16**12):012x}"
        channel = rng.choice(person.agent.channels)
        self.events.append(
            Charged(self.after(3), person.identity, message_id, person.agent.key_name, person.agent.agent_id, channel)
        )
        if person.agent.uses_proxy:
            self._report(message_id)

    def _use(self, product_type: str) -> None:
        """Use a tool once, if it can be paid."""
        product = self.settings.products.get(product_type)
        if product is None:
            return
        at, arrived = self.after(5), self.person.arrived.date()
        left, day = self.tools.get(product_type, (product.initial_free, arrived))
        left = free_on(at.date(), left=left, day=day, product=product)
        if left > 0:
            left -= 1
        elif self.paid >= product.price_credits:
            self.paid -= product.price_credits
        else:
            return
        self.tools[product_type] = (left, at.date())
        request_id = f"tool-{self.rng.randrange(16**12):012x}"
        self.events.append(ToolUsed(at, self.person.identity, request_id, product_type))

    def _report(self, interaction_id: str) -> None:
        """Report the interaction's LLM cost: mostly a summary, sometimes single calls as well."""
        rng = self.rng
        models = [rng.choices(list(MODELS), [6, 4, 2, 1])[0]]
        if rng.random() < 0.08:
            models.append(rng.choice([name for name in MODELS if name not in models]))
        calls = [
            _call(rng, interaction_id, rng.choice(models)) for _ in range(min(70, 9 + int(rng.expovariate(1 / 12))))
        ]
        form = rng.random()
        if form < 0.12:
            reports = calls[:1]
        elif form < 0.16:
            reports = [*calls[:5], _summary(calls[:5])]
        else:
            reports = [_summary(calls)]
        begun = self.ready_at
        self.events += [
            Reported(begun + timedelta(seconds=n), self.person.identity, report) for n, report in enumerate(reports)
        ]
        self.ready_at += timedelta(seconds=len(reports))


def _call(rng: Random, interaction_id: str, model: str) -> LlmUsageReport:
    prompt, completion = int(rng.triangular(400, 9000, 1800)), int(rng.triangular(15, 900, 120))
    per_prompt, per_completion = (Decimal(cents) for cents in MODELS[model])
    return LlmUsageReport(
        interaction_id=interaction_id,
        call_id=None,
        total_llm_calls=1,
        total_prompt_tokens=prompt,
        total_completion_tokens=completion,
        models_used=[model],
        actual_cost_cents=prompt * per_prompt + completion * per_completion,
        duration_ms=300 + int(rng.expovariate(1 / 700)),
        error_count=int(rng.random() < 0.01),
        fallback_count=int(rng.random() < 0.015),
    )


def _summary(calls: Sequence[LlmUsageReport]) -> LlmUsageReport:
    return LlmUsageReport(
        interaction_id=calls[0].interaction_id,
        call_id=None,
        total_llm_calls=len(calls),
        total_prompt_tokens=sum(call.total_prompt_tokens for call in calls),
        total_completion_tokens=sum(call.total_completion_tokens for call in calls),
        models_used=sorted({model for call in calls for model in call.models_used}),
        actual_cost_cents=sum((call.actual_cost_cents for call in calls), Decimal(0)),
        duration_ms=sum(call.duration_ms for call in calls),
        error_count=sum(call.error_count for call in calls),
        fallback_count=sum(call.fallback_count for call in calls),
    )


def write_story(until: datetime, settings: Settings, live_people: int = LIVE_PEOPLE) -> list[Event]:
    """Return all events of accounts until then, in the order of time."""
    rng = Random(SEED)
    lives = [Life(rng, person, until, settings) for person in people(rng, until, live_people)]
    for life in lives:
        life.live()
    live = [life for life in lives if life.person.identity.environment == "live"]
    money = spend([(life.person, life.events) for life in live], until)
    _trouble(live, settings)
    return sorted([*money, *(event for life in lives for event in life.events)], key=lambda event: event.at)


def _trouble(lives: Sequence[Life], settings: Settings) -> None:
    """Add the cases for the back office, each at the end of a life without later events."""
    until = lives[0].until

    def quiet(days: float) -> list[Life]:
        return [life for life in lives if life.ready_at < until - timedelta(days=days)]

    def buyers(days: float) -> list[Life]:
        return [life for life in quiet(days) if life.purchases and not _is_troubled(life)]

    def kept(life: Life) -> int:
        """Return how much of the last purchase is left. The rest becomes debt when the money is refunded."""
        return life.paid - settings.packs[life.purchases[-1].pack].credits

    lost = min(buyers(9), key=kept)
    name, identity = lost.purchases[-1].name, lost.person.identity
    lost.events.append(Disputed(lost.after(90_000), identity, name))
    lost.set_status(7_000, "suspend", "Disputed payment")
    lost.events.append(DisputeLost(lost.after(500_000), identity, name))
    disputed = buyers(2.2)[0]
    disputed.events.append(Disputed(disputed.after(90_000), disputed.person.identity, disputed.purchases[-1].name))
    whole, part, late = buyers(1.3)[:3]
    price = settings.packs[part.purchases[-1].pack].price_minor
    whole.events.append(_refund(whole, None, "Bought by mistake, refund requested the same day"))
    part.events.append(_refund(part, price * 2 // 5, "Half of the answers failed in the outage"))
    late.events.append(
        _refund(late, next(iter(settings.packs.values())).price_minor // 5, "Goodwill after a long wait")
    )
    calm = [life for life in quiet(2.4) if not _is_troubled(life)]
    for life, reason in zip(
        calm[3::5],
        ("Several accounts of one person", "Card reported stolen", "Spam in the Discord community"),
        strict=False,
    ):
        life.set_status(30_000, "suspend", reason)
    back, gone, *sorry = calm[4::5]
    back.events.append(
        StatusSet(back.noticed_after(20_000), back.person.identity, "suspend", "Unusual number of requests")
    )
    back.events.append(
        StatusSet(back.noticed_after(60_000), back.person.identity, "reopen", "Explained: a class of students")
    )
    gone.events.append(
        StatusSet(gone.noticed_after(20_000), gone.person.identity, "close", "Closed at the user's request")
    )
    for life, (credits, reason) in zip(
        sorry, ((10, "Apology for the outage"), (5, "Lost messages, ticket 1183"), (25, "Found a bug")), strict=False
    ):
        life.events.append(Adjusted(life.noticed_after(50_000), life.person.identity, credits, reason))
    _unsettled(lives)


def _refund(life: Life, amount_minor: int | None, reason: str) -> Refunded:
    return Refunded(life.noticed_after(40_000), life.person.identity, life.purchases[-1].name, amount_minor, reason)


def _is_troubled(life: Life) -> bool:
    return any(isinstance(event, Refunded | Disputed | StatusSet | Adjusted) for event in life.events)


def _unsettled(lives: Sequence[Life]) -> None:
    """Add purchases of the last hours without an outcome yet, and one that was given up."""
    exhausted = [
        life
        for life in lives
        if life.free + life.paid == 0 and not _is_troubled(life) and life.ready_at < life.until - timedelta(days=2)
    ]
    given_up = exhausted.pop()
    given_up.ready_at = given_up.until - timedelta(hours=31)
    given_up.buy(next(iter(given_up.settings.packs)), [])
    cards: tuple[list[str], ...] = (
        ["pm_card_chargeDeclined"],
        ["pm_card_processing"],
        ["pm_card_authenticationRequired"],
        [],
        ["pm_card_chargeDeclinedInsufficientFunds"],
        [],
    )
    for hours, (life, tried) in enumerate(zip(exhausted[::2], cards, strict=False), start=1):
        life.ready_at = life.until - timedelta(hours=2.5 * hours, seconds=life.rng.uniform(0, 3000))
        life.buy(next(iter(life.settings.packs)), tried)
