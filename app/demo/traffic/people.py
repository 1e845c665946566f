"""The people of the story: names, origin, and demand."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

from app.accounts.directory import Identity, Profile
from app.auth.caller import Environment

DAYS = 35
LIVE_PEOPLE = 252
TEST_SHARE = 10
"""The number of live users per user of the test environment."""
FEWEST_INTERACTIONS, MOST_INTERACTIONS, STEEPNESS = 12, 640, 0.66
"""The interactions of one person in a month."""
FIRST_NAMES = """
    Amara Anders Beatriz Bilal Camille Chidi Clara Dana Diego Elif Emeka Erik Fatima Felix Freya Giulia Grace Hana
    Hugo Ibrahim Ines Isla Jamal Jonas Julia Kaito Karim Katya Lars Leila Lena Liam Lucia Malik Mara Marco Mei Mina
    Nadia Nils Noor Olga Omar Paula Pedro Priya Rafael Rania Ravi Rosa Samir Sara Sven Tariq Tessa Tomas Uma Vera
    Viktor Wanjiru Yara Yusuf Zoe Zuri
""".split()  # noqa: SIM905  (a list would fill a screen)
LAST_NAMES = """
    Abebe Almeida Andersson Bakker Banerjee Bauer Bianchi Castillo Chen Costa Dubois Eriksen Farouk Ferrari Fischer
    Garcia Haddad Hansen Hoffmann Ito Ivanova Jansen Johansson Kamau Kaya Keller Khan Kim Kowalski Kruger Lindqvist
    Lopez Mbeki Mehta Moreau Mueller Nakamura Novak Nwosu Okafor Oliveira Osei Patel Pereira Petrov Rahman Rossi
    Sato Schmidt Silva Singh Sorensen Tanaka Torres Varga Weber Yilmaz Zhang
""".split()  # noqa: SIM905  (a list would fill a screen)
MAIL_DOMAINS = ("example.com", "example.org", "example.net")
AREA_CODES = ("202", "212", "305", "312", "415", "503", "617", "702")


@dataclass(frozen=True, slots=True)
class Agent:
    """One of our agents, which serves the users of one provider."""

    agent_id: str
    key_name: str
    provider: str
    channels: tuple[str, ...]
    share: int
    uses_proxy: bool = False
    """Whether its interactions use our LLM proxy, which reports their cost."""


AGENTS = (
    Agent("scout", "Scout (web)", "oauth:google", ("web",), 34, uses_proxy=True),
    Agent("sage", "Sage (web)", "oauth:google", ("web", "embed"), 22),
    Agent("datum", "Datum (API)", "oauth:google", ("api",), 10),
    Agent(
        "echo",
        "Echo (Discord)",
        "oauth:discord",
        ("discord-general", "discord-help", "discord-dm"),
        16,
        uses_proxy=True,
    ),
    Agent("mira", "Mira (WhatsApp)", "oauth:wa", ("whatsapp",), 14),
    Agent("atlas", "Atlas (WhatsApp)", "oauth:wa", ("whatsapp-business",), 4),
)


@dataclass(frozen=True, slots=True)
class Person:
    identity: Identity
    profile: Profile
    agent: Agent
    arrived: datetime
    hours_east: int
    """Hours east of Greenwich, for the person's daytime."""
    wants: int
    """Interactions, if they were free."""
    buys: bool


def people(rng: Random, until: datetime, live: int) -> list[Person]:
    """Return all people who arrived within DAYS before `until`, unordered: so many live ones, and some in test."""
    count = live + live // TEST_SHARE
    # Few people want much: a Pareto distribution, sampled evenly, so that the amount of traffic is not random.
    appetites = [FEWEST_INTERACTIONS * (1 - (n + 0.5) / count) ** (-1 / STEEPNESS) for n in range(count)]
    rng.shuffle(appetites)
    return [
        _person(rng, "live" if number < live else "test", number, appetite, until)
        for number, appetite in enumerate(appetites)
    ]


def _person(rng: Random, environment: Environment, number: int, appetite: float, until: datetime) -> Person:
    agent = rng.choices(AGENTS, [agent.share for agent in AGENTS])[0]
    hours_east = rng.choice((-8, -5, -5, -3, 0, 1, 1, 2, 5, 8))
    arrived = _arrival(rng, hours_east, until)
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    email = f"{first}.{last}{rng.choice(('', '', number))}@{rng.choice(MAIL_DOMAINS)}".lower()
    consents = rng.random() < 0.35 or None
    if agent.provider == "oauth:wa":
        area = AREA_CODES[(3 * number + number // 100) % len(AREA_CODES)]
        phone = f"1{area}55501{number % 100:02d}"  # numbers reserved for fiction; each is used once
        external_id, profile = phone, Profile(display_name=first, agent_id=agent.agent_id)
    elif agent.provider == "oauth:discord":
        external_id = str(rng.randrange(2 * 10**17, 12 * 10**17))
        handle = f"{first}{rng.choice(('_', '.', ''))}{last[:3]}{rng.choice(('', rng.randrange(100)))}".lower()
        profile = Profile(display_name=handle, agent_id=agent.agent_id, tenant_id="discord-community")
    else:
        external_id = f"1{rng.randrange(10**19, 10**20)}"
        profile = Profile(
            wa_id=f"wa-{rng.randrange(1000, 10**5)}" if rng.random() < 0.6 else None,
            customer_email=email,
            display_name=f"{first} {last}",
            agent_id=agent.agent_id,
            marketing_opt_in=consents,
            marketing_opt_in_source="sign-up form" if consents else None,
        )
    share_left = max(0.1, (until - arrived) / timedelta(days=DAYS)) ** 0.5
    wants = 1 + int(min(MOST_INTERACTIONS, appetite) * share_left)
    if environment == "test":
        wants = min(wants, 25)
    identity = Identity(environment, agent.provider, external_id)
    return Person(identity, profile, agent, arrived, hours_east, wants, rng.random() < 0.66)


def _arrival(rng: Random, hours_east: int, until: datetime) -> datetime:
    """Return a time of arrival: more each week, fewer at weekends."""
    midnights = [_midnight(until) - timedelta(days=days) for days in range(DAYS, -1, -1)]
    weights = [(1 + n / 12) * busyness(midnight) for n, midnight in enumerate(midnights)]
    while True:
        arrived = moment_on(rng, rng.choices(midnights, weights)[0], hours_east)
        if arrived < until - timedelta(minutes=20):
            return arrived


def busyness(midnight: datetime) -> float:
    return 0.55 if midnight.weekday() >= 5 else 1.0


def moment_on(rng: Random, midnight: datetime, hours_east: int) -> datetime:
    """Return a time on that UTC day, mostly in the daytime and evening of the person's time zone."""
    weights = [1, 1, 1, 1, 1, 1, 3, 6, 9, 10, 10, 9, 10, 9, 9, 9, 10, 11, 12, 14, 15, 14, 9, 4]
    hour = (rng.choices(range(24), weights)[0] - hours_east) % 24
    return midnight + timedelta(hours=hour, seconds=rng.uniform(0, 3600))


def _midnight(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
