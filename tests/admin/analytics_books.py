"""The expected reports, counted independently: read every row of the books and add up in Python."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from tests.admin.analytics_days import day_of
from tests.admin.analytics_money import MoneyBooks
from tests.books import connected
from tests.databases import Urls

Row = Mapping[str, Any]
POOLS = ("daily_free", "grants", "free", "paid")


@dataclass(frozen=True)
class Use:
    account_id: UUID
    environment: str
    currency: str
    day: date
    product_type: str | None
    key_id: str | None
    agent_id: str | None
    daily_free: int = 0
    free: int = 0
    paid: int = 0
    grants: int = 0
    product_free: int = 0
    product_paid: int = 0

    @property
    def credits(self) -> int:
        return self.daily_free + self.free + self.paid + self.grants


@dataclass(frozen=True)
class Interaction:
    account_id: UUID
    interaction_id: str
    environment: str
    currency: str
    day: date
    model: str
    first_id: UUID
    llm_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_cents: Decimal
    models: tuple[str, ...] = ()
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Sums over the reports that name a single model, by that model."""
    charges: tuple[tuple[date, str, int], ...] = ()
    """Day, agent and paid credits of the charges that name it."""

    def shares(self) -> list["Share"]:
        """Each model's part of the cost, on the day and agent of the interaction, and of its charges, on theirs."""
        models = self.models or ("",)
        own = {model: self.own.get(model, dict.fromkeys(COUNTS, 0)) for model in models}
        weights = [Fraction(own[model]["cost_cents"]) for model in models]
        if not sum(weights):
            weights = [Fraction(own[m]["prompt_tokens"] + own[m]["completion_tokens"]) for m in models]
        if not sum(weights):
            weights = [Fraction(1) for _ in models]
        agent = self.charges[0][1] if self.charges else ""
        found = []
        rest = {
            name: split(getattr(self, name) - sum(own[model][name] for model in models), weights, PLACES.get(name, 0))
            for name in COUNTS
        }
        for n, model in enumerate(models):
            counts = {name: own[model][name] + rest[name][n] for name in COUNTS}
            found.append(Share(self, self.day, agent, model, {"interactions": 1, **counts}, Decimal(0)))
        for day, charged_by, paid in self.charges:
            for model, part in zip(models, split(paid, weights, 10), strict=True):
                found.append(Share(self, day, charged_by, model, dict.fromkeys(("interactions", *COUNTS), 0), part))
        return found


@dataclass(frozen=True)
class Share:
    interaction: Interaction
    day: date
    agent_id: str
    model: str
    counts: Mapping[str, Any]
    paid: Decimal


COUNTS = ("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents")
PLACES = {"cost_cents": 10}


def split(whole: Any, weights: list[Fraction], places: int) -> list[Decimal]:
    """Parts in proportion to the weights, rounded so that they add up to the whole."""

    def rounded(value: Fraction) -> Decimal:
        scaled = value * 10**places
        return Decimal(int(scaled + Fraction(1, 2))).scaleb(-places)

    ends = [rounded(Fraction(whole) * sum(weights[: n + 1]) / sum(weights)) for n in range(len(weights))]
    return [end - begin for begin, end in zip([Decimal(0), *ends], ends, strict=False)]


@dataclass
class Books:
    accounts: dict[UUID, Row]
    purchases: list[Row]
    withdrawn: dict[UUID, int]
    credits: list[Row]
    openings: list[Row]
    inventory: list[Row]
    uses: list[Use]
    interactions: list[Interaction]
    money: dict[str, MoneyBooks]
    """By environment."""


async def read_books(urls: Urls) -> Books:
    async with connected(urls) as connection:

        async def rows(table: str) -> list[Row]:
            return [dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")]

        accounts = {row["account_id"]: row for row in await rows("accounts")}
        charges, entries = await rows("charges"), await rows("ledger_entries")
        tools, reports = await rows("product_usage_log"), await rows("llm_usage")
        agents = {
            r["charge_id"]: r["agent"]
            for r in await rows("(SELECT charge_id, metadata ->> 'agent_id' AS agent FROM charges) c")
        }
        withdrawn: Counter[UUID] = Counter()
        for dispute in await rows("purchase_disputes"):
            if dispute["status"] in ("open", "lost"):
                withdrawn[dispute["purchase_id"]] += dispute["amount_minor"]
        return Books(
            accounts,
            await rows("purchases"),
            withdrawn,
            await rows("credits"),
            [
                {**entry, "transaction_type": "opening", "credits": entry["delta"]}
                for entry in entries
                if (entry["kind"], entry["pool"]) == ("opening_grant", "paid")
            ],
            await rows("product_inventory"),
            [*_charged(accounts, charges, entries, agents), *_tool_uses(accounts, charges, tools)],
            list(_interactions(accounts, reports, _by_key(charges, agents))),
            _money(accounts, await rows("usage_events"), await rows("money_credits"), entries),
        )


def _money(
    accounts: Mapping[UUID, Row], events: list[Row], credits: list[Row], entries: list[Row]
) -> dict[str, MoneyBooks]:
    found = {}
    for environment in ("live", "test"):
        ids = {key for key, account in accounts.items() if account["environment"] == environment}
        parts = ([row for row in rows if row["account_id"] in ids] for rows in (events, credits, entries))
        found[environment] = MoneyBooks([accounts[key] for key in ids], *parts)
    return found


Charged = dict[tuple[UUID, str], list[tuple[date, str, int]]]


def _by_key(charges: Iterable[Row], agents: Mapping[UUID, str | None]) -> Charged:
    """Charges by the interaction that their key names, in the order of their ids."""
    found: Charged = defaultdict(list)
    for c in sorted(charges, key=lambda c: c["charge_id"]):
        if (c["operation"], c["caller_kind"]) == ("charge", "key") and c["idempotency_key"] is not None:
            name = c["idempotency_key"].removeprefix("charge:")
            charged = (day_of(c["created_at"]), agents[c["charge_id"]] or "", c["from_paid"])
            found[c["account_id"], name].append(charged)
    return found


def _charged(
    accounts: Mapping[UUID, Row], charges: Iterable[Row], entries: Iterable[Row], agents: Mapping[UUID, str | None]
) -> Iterable[Use]:
    actors = {(e["account_id"], e["entry_no"]): (e["actor_type"], e["actor_id"]) for e in entries}
    for charge in charges:
        if charge["operation"] == "charge":
            account = accounts[charge["account_id"]]
            kind, actor = actors[charge["account_id"], charge["entry_no"]]
            yield Use(
                account["account_id"],
                account["environment"],
                account["currency"],
                day_of(charge["created_at"]),
                None,
                actor if kind == "api_key" else None,
                agents[charge["charge_id"]],
                **{pool: charge[f"from_{pool}"] for pool in POOLS},
            )


def _tool_uses(accounts: Mapping[UUID, Row], charges: Iterable[Row], tools: Iterable[Row]) -> Iterable[Use]:
    by_id = {charge["charge_id"]: charge for charge in charges}
    for use in tools:
        account, charge = accounts[use["account_id"]], by_id.get(use["charge_id"])
        yield Use(
            account["account_id"],
            account["environment"],
            account["currency"],
            day_of(use["created_at"]),
            use["product_type"],
            use["actor_id"] if use["actor_type"] == "api_key" else None,
            None,
            paid=0 if charge is None else charge["from_paid"],
            grants=0 if charge is None else charge["from_grants"],
            product_free=int(use["source"] == "free"),
            product_paid=int(use["source"] == "paid"),
        )


def _interactions(accounts: Mapping[UUID, Row], reports: Iterable[Row], charged: Charged) -> Iterable[Interaction]:
    by_interaction: dict[tuple[UUID, str], list[Row]] = defaultdict(list)
    for report in reports:
        by_interaction[report["account_id"], report["interaction_id"]].append(report)
    for (account_id, interaction_id), rows in by_interaction.items():
        calls = [row for row in rows if row["total_llm_calls"] <= 1]
        summaries = [row for row in rows if row["total_llm_calls"] > 1]

        def counted(name: str, calls: list[Row] = calls, summaries: list[Row] = summaries) -> Any:
            return max(sum(row[name] for row in calls), *(row[name] for row in summaries), 0)

        yield Interaction(
            account_id,
            interaction_id,
            accounts[account_id]["environment"],
            accounts[account_id]["currency"],
            min(day_of(row["created_at"]) for row in rows),
            " + ".join(sorted({model for row in rows for model in row["models_used"]})),
            min(row["usage_log_id"] for row in rows),
            counted("total_llm_calls"),
            counted("total_prompt_tokens"),
            counted("total_completion_tokens"),
            counted("actual_cost_cents"),
            tuple(sorted({model for row in rows for model in row["models_used"]})),
            _own_calls(calls),
            tuple(charged.get((account_id, interaction_id), ())),
        )


def _own_calls(calls: Iterable[Row]) -> dict[str, Counter[str]]:
    own: dict[str, Counter[str]] = defaultdict(Counter)
    for call in calls:
        if len(call["models_used"]) == 1:
            for name in COUNTS:
                own[call["models_used"][0]][name] += call[REPORTED.get(name, f"total_{name}")]
    return own


REPORTED = {"cost_cents": "actual_cost_cents"}
