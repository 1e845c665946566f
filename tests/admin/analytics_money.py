"""The expected figures of money and grants, counted independently: every row of the books, added up in Python."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.admin.analytics_days import day_of

Row = Mapping[str, Any]
AMOUNTS = ("cost", "recorded", "provider_cost", "margin")
MOVED = ("purchased", "granted", "taken_back", "ended", "other_usage", "debt", "debt_paid")
COUNTS = ("events", "refused", "without_provider_cost")
TAKEN_BACK = ("refund_reversal", "dispute_reversal", "dispute_reinstatement")
ENDED = ("grant_expiry", "grant_ended")
Sums = dict[str, Counter[str]]


@dataclass
class MoneyBooks:
    """The books of one environment."""

    accounts: list[Row]
    events: list[Row]
    credits: list[Row]
    entries: list[Row]

    def active(self, chosen: Callable[[date], bool]) -> set[UUID]:
        """Accounts with a recorded event of the chosen days, by the event's own time."""
        return {
            event["account_id"]
            for event in self.events
            if event["status"] != "refused" and chosen(day_of(event["occurred_at"]))
        }

    def money(self, chosen: Callable[[date], bool]) -> list[dict[str, Any]]:
        sums: Sums = defaultdict(Counter)
        for event in self.events:
            if chosen(day_of(event["occurred_at"])):
                count_event(sums[event["currency"]], event)
        for credit in self.credits:
            if chosen(day_of(credit["created_at"])):
                sums[credit["currency"]][_word(credit["transaction_type"])] += _signed(
                    credit["transaction_type"], credit["amount_nanos"]
                )
        for entry in self.entries:
            if chosen(day_of(entry["created_at"])):
                _count_entry(sums[entry["unit"]], entry)
        return [
            {**figures(currency, sums[currency]), **{name: nanos(sums[currency][name]) for name in MOVED}}
            for currency in sorted(sums)
            if currency != "credit"
        ]

    def grants(self, chosen: Callable[[date], bool]) -> dict[str, int]:
        """Grants of credits that were given, and the rest of those that ended."""
        moved = [e for e in self.entries if (e["pool"], e["unit"]) == ("grant", "credit")]
        moved = [e for e in moved if e["cause_type"] == "grant" and chosen(day_of(e["created_at"]))]
        return {
            "grants_given": sum(e["delta"] for e in moved if e["kind"] not in ENDED),
            "grants_ended": -sum(e["delta"] for e in moved if e["kind"] in ENDED),
        }

    def balances(self) -> list[dict[str, Any]]:
        sums: dict[str, Counter[str]] = defaultdict(Counter)
        for a in self.accounts:
            sums[a["currency"]].update(
                balance=a["money_nanos"], grants=a["grants_money_nanos"], debt=a["money_debt_nanos"]
            )
        return [
            {"currency": currency, **{name: nanos(sums[currency][name]) for name in ("balance", "grants", "debt")}}
            for currency in sorted(sums)
            if any(sums[currency].values())
        ]

    def by(self, field: str, chosen: Callable[[date], bool]) -> list[dict[str, Any]]:
        """The sums of usage events by an attribute and currency."""
        groups: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        for event in self.events:
            if chosen(day_of(event["occurred_at"])):
                provider = (event["provider"] or "") if field == "model" else ""
                count_event(groups[event[field] or "", provider, event["currency"]], event)
        ordered = sorted(
            groups,
            key=lambda key: (-groups[key]["cost"], -groups[key]["events"], key[1], key[0], key[2]),
        )
        return [
            {
                **figures(currency, groups[group, provider, currency]),
                "group": group or None,
                "provider": provider or None,
            }
            for group, provider, currency in ordered
        ]


def count_event(sums: Counter[str], event: Row) -> None:
    cost, provider_cost = event["cost_nanos"], event["provider_cost_nanos"]
    if event["status"] == "refused":
        sums["refused"] += 1
        return
    sums["events"] += 1
    sums["recorded" if event["status"] == "recorded" else "cost"] += cost
    sums["debt"] += event["debt_nanos"]
    if provider_cost is None:
        sums["without_provider_cost"] += 1
    else:
        sums["provider_cost"] += provider_cost
        sums["margin"] += (0 if event["status"] == "recorded" else cost) - provider_cost


def _word(kind: str) -> str:
    if kind in TAKEN_BACK:
        return "taken_back"
    return {"purchase": "purchased", "usage": "other_usage"}.get(kind, "granted")


def _signed(kind: str, amount: int) -> int:
    return -amount if kind in (*TAKEN_BACK, "usage") else amount


def _count_entry(sums: Counter[str], entry: Row) -> None:
    if entry["cause_type"] == "grant":
        kind = entry["kind"]
        sums["ended" if kind in ENDED else _word(kind)] += -entry["delta"] if kind in ENDED else entry["delta"]
    if entry["cause_type"] == "correction":
        sums["other_usage"] -= entry["delta"]
    if entry["cause_type"] == "money_credit" and entry["pool"] == "money_debt":
        sums["debt" if entry["delta"] > 0 else "debt_paid"] += abs(entry["delta"])


def nanos(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-9)


def figures(currency: str, sums: Counter[str]) -> dict[str, Any]:
    return {
        "currency": currency,
        **{name: sums[name] for name in COUNTS},
        **{name: nanos(sums[name]) for name in AMOUNTS},
    }
