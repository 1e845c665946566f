"""The expected analytics: the reports of the back office, computed from the books in plain Python."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from app.analytics.days import Days
from app.analytics.revenue import COST_CURRENCY
from app.auth.caller import Actor, Environment
from tests.admin.analytics_books import COUNTS, POOLS, Books, Row, Share, Use
from tests.admin.analytics_days import day_of, monday
from tests.admin.analytics_money import AMOUNTS, MOVED

EARNED = ("revenue_cents", "interaction_revenue_cents", "tool_revenue_cents")


HISTORY_DAYS = 40


AGENT = Actor("api_key", "0123456789abcdef")


def ranges() -> list[Days]:
    today = datetime.now(UTC).date()
    spans: list[tuple[Environment, int, int]] = [("live", 400, 35), ("live", 20, 7), ("live", 9, 0), ("test", 30, 0)]
    return [
        Days(
            environment,
            max(today - timedelta(days=begin), today - timedelta(days=end + 365)),
            today - timedelta(days=end),
        )
        for environment, begin, end in spans
    ]


def within(days: Days, day: date) -> bool:
    return days.first <= day <= days.last


def usage(uses: Iterable[Use]) -> dict[str, Any]:
    uses = list(uses)
    return {
        "uses": len(uses),
        "spent": {pool: sum(getattr(use, pool) for use in uses) for pool in POOLS},
        "product_free": sum(use.product_free for use in uses),
        "product_paid": sum(use.product_paid for use in uses),
    }


def sales(books: Books, purchases: Iterable[Row]) -> list[dict[str, Any]]:
    by_currency: dict[str, Counter[str]] = defaultdict(Counter)
    for purchase in purchases:
        received, refunded = purchase["received_minor"], min(purchase["refunded_minor"], purchase["received_minor"])
        disputed = min(books.withdrawn[purchase["purchase_id"]], received - refunded)
        by_currency[purchase["received_currency"]].update(
            sales=1,
            received_minor=received,
            refunded_minor=refunded,
            disputed_minor=disputed,
            net_minor=received - refunded - disputed,
        )
    names = ("sales", "received_minor", "refunded_minor", "disputed_minor", "net_minor")
    return [{"currency": c, **{name: by_currency[c][name] for name in names}} for c in sorted(by_currency)]


def movements(credits: Iterable[Row]) -> dict[str, int]:
    back = ("refund_reversal", "dispute_reversal", "dispute_reinstatement")
    sums = Counter({"sold": 0, "granted": 0, "taken_back": 0})
    for credit in credits:
        kind = credit["transaction_type"]
        if kind in back:
            sums["taken_back"] -= credit["credits"]
        else:
            sums["sold" if kind == "purchase" else "granted"] += credit["credits"]
    return dict(sums)


class Expected:
    """The replies, by hand."""

    def __init__(self, books: Books, days: Days) -> None:
        self.books, self.days = books, days
        self.accounts = [a for a in books.accounts.values() if a["environment"] == days.environment]
        self.ids = {a["account_id"] for a in self.accounts}
        self.paid = [p for p in books.purchases if p["account_id"] in self.ids and p["received_minor"] is not None]
        self.uses = [use for use in books.uses if use.environment == days.environment]
        self.now = [use for use in self.uses if within(days, use.day)]
        self.money = books.money[days.environment]
        self.interactions = [i for i in books.interactions if i.environment == days.environment and within(days, i.day)]

    def figures(self, chosen: Callable[[date], bool]) -> dict[str, Any]:
        uses = [use for use in self.uses if chosen(use.day)]
        moved = [*self.books.credits, *self.books.openings]
        credits = [c for c in moved if c["account_id"] in self.ids and chosen(day_of(c["created_at"]))]
        return {
            **usage(uses),
            "new_accounts": sum(chosen(day_of(a["created_at"])) for a in self.accounts),
            "active_users": len({use.account_id for use in uses} | self.money.active(chosen)),
            "credits": {**movements(credits), **self.money.grants(chosen)},
            "money": self.money.money(chosen),
            "sales": sales(self.books, [p for p in self.paid if chosen(day_of(p["created_at"]))]),
        }

    def period(self, days: Days) -> dict[str, Any]:
        buyers = {p["account_id"] for p in self.paid if within(days, day_of(p["created_at"]))}
        return {
            **self.figures(lambda day: within(days, day)),
            "from": str(days.first),
            "to": str(days.last),
            "buyers": len(buyers),
            "revenue": [
                {name: margin[name] for name in ("currency", *EARNED)} for margin in self.margins(days, self.prices())
            ],
        }

    def overview(self) -> dict[str, Any]:
        paying = len({p["account_id"] for p in self.paid})
        return {
            "now": {
                "accounts": len(self.accounts),
                "paying_users": paying,
                "conversion": round(paying / len(self.accounts), 6),
                "exhausted_users": sum(
                    a["status"] == "active" and a["free"] == a["paid"] == a["grants_credits"] == 0
                    for a in self.accounts
                ),
                "paid_outstanding": sum(a["paid"] for a in self.accounts),
                "debt": sum(a["debt"] for a in self.accounts),
                "grants_outstanding": sum(a["grants_credits"] for a in self.accounts),
                "money": self.money.balances(),
                "product_paid_outstanding": sum(i["paid"] for i in self.books.inventory if i["account_id"] in self.ids),
            },
            "period": self.period(self.days),
            "previous": self.period(self.days.previous),
        }

    def daily(self) -> dict[str, Any]:
        return {"days": [{"day": str(day), **self.figures(day.__eq__)} for day in self.days.each()]}

    def by(self, what: str, field: str, **more: Any) -> dict[str, Any]:
        groups: dict[str | None, list[Use]] = defaultdict(list)
        for use in self.now:
            groups[getattr(use, field)].append(use)
        ordered = sorted(groups, key=lambda key: (-len(groups[key]), key or ""))
        return {what: [{**usage(groups[key]), field: key, **more} for key in ordered]}

    def users(self) -> list[tuple[str, int, int]]:
        sums: dict[uuid.UUID, list[int]] = defaultdict(lambda: [0, 0])
        for use in self.now:
            sums[use.account_id][0] += use.credits
            sums[use.account_id][1] += 1
        ordered = sorted(sums, key=lambda key: (-sums[key][0], -sums[key][1], key))
        return [(str(key), sums[key][1], sums[key][0]) for key in ordered[:7]]

    def cohorts(self) -> dict[str, Any]:
        weeks = sorted({monday(day_of(a["created_at"])) for a in self.accounts})
        weeks = [week for week in weeks if monday(self.days.first) <= week <= self.days.last]
        paying = {p["account_id"] for p in self.paid}
        cohorts = []
        for week in weeks:
            ids = {a["account_id"] for a in self.accounts if monday(day_of(a["created_at"])) == week}
            later: dict[int, list[tuple[uuid.UUID, int]]] = defaultdict(list)
            for use in self.uses:
                if use.account_id in ids:
                    later[(monday(use.day) - week).days // 7].append((use.account_id, use.credits))
            for event in self.money.events:
                if event["account_id"] in ids and event["status"] != "refused":
                    later[(monday(day_of(event["occurred_at"])) - week).days // 7].append((event["account_id"], 0))
            activity = [
                {
                    "week": n,
                    "active": len({account_id for account_id, _ in later[n]}),
                    "credits": sum(credits for _, credits in later[n]),
                }
                for n in sorted(later)
            ]
            cohorts.append(
                {"first_day": str(week), "accounts": len(ids), "ever_paid": len(ids & paying), "weeks": activity}
            )
        return {"cohorts": cohorts}

    def metered(self, field: str) -> list[dict[str, Any]]:
        return [{**row, "name": None} for row in self.money.by(field, lambda day: within(self.days, day))]

    def prices(self) -> dict[str, tuple[int, int, int]]:
        """By currency: net money, credits sold, credits that came into paid pools."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in sales(self.books, self.paid):
            found[row["currency"]][0] += row["net_minor"]
        for p in self.books.purchases:
            if p["account_id"] in self.ids and p["credit_id"] is not None:
                found[p["currency"]][1] += p["credits"] - p["credits_refunded"] - p["credits_disputed"]
        for account in self.accounts:
            found[account["currency"]][2] += account["paid"] - account["debt"]
        for use in self.uses:
            found[use.currency][2] += use.paid
        return {currency: (net, sold, entered) for currency, (net, sold, entered) in sorted(found.items())}

    def revenue_cents(self, paid: Decimal | int, currency: str) -> Decimal:
        net, _, entered = self.prices()[currency]
        return round(Decimal(paid) * net / entered, 10)

    def margins(self, days: Days, prices: dict[str, tuple[int, int, int]]) -> list[dict[str, Any]]:
        uses = [use for use in self.uses if within(days, use.day)]
        interactions = [i for i in self.books.interactions if i.environment == days.environment and within(days, i.day)]
        margins = []
        for currency in sorted({use.currency for use in uses} | {i.currency for i in interactions}):
            paid = sum(use.paid for use in uses if use.currency == currency)
            on_tools = sum(use.paid for use in uses if use.currency == currency and use.product_type is not None)
            cost = sum((i.cost_cents for i in interactions if i.currency == currency), Decimal(0))
            net, _, entered = prices[currency]
            earned, by_tools, by_interactions = (
                round(Decimal(credits) * net / entered, 10) for credits in (paid, on_tools, paid - on_tools)
            )
            margins.append(
                {
                    "currency": currency,
                    "paid_spent": paid,
                    "tool_paid_spent": on_tools,
                    "revenue_cents": earned,
                    "interaction_revenue_cents": by_interactions,
                    "tool_revenue_cents": by_tools,
                    "interactions": sum(i.currency == currency for i in interactions),
                    "cost_cents": cost,
                    "margin_cents": by_interactions - cost if currency == COST_CURRENCY else None,
                }
            )
        return margins

    def shares(self) -> list[Share]:
        everything = [i for i in self.books.interactions if i.environment == self.days.environment]
        return [share for i in everything for share in i.shares() if within(self.days, share.day)]

    def models(self) -> list[dict[str, Any]]:
        groups: dict[str, list[Share]] = defaultdict(list)
        for share in self.shares():
            if share.counts["interactions"]:
                groups[share.model].append(share)
        models = [{"model": model, **_counts(shares)} for model, shares in groups.items()]
        return sorted(models, key=lambda row: (-row["cost_cents"], row["model"]))

    def earned(self, paid: Decimal | int, cost: Decimal, currency: str) -> dict[str, Any]:
        revenue = self.revenue_cents(paid, currency)
        margin = revenue - cost if currency == COST_CURRENCY else None
        return {
            "currency": currency,
            "paid_spent": paid,
            "revenue_cents": revenue,
            "cost_cents": cost,
            "margin_cents": margin,
        }

    def margin_models(self) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], list[Share]] = defaultdict(list)
        for share in self.shares():
            groups[share.model, share.interaction.currency].append(share)
        rows: list[dict[str, Any]] = []
        for (model, currency), shares in groups.items():
            counts, paid = _counts(shares), sum((share.paid for share in shares), Decimal(0))
            if counts["interactions"] or paid:
                each = counts["cost_cents"] / counts["interactions"] if counts["interactions"] else None
                rows.append(
                    {
                        "model": model,
                        **counts,
                        **self.earned(paid, counts["cost_cents"], currency),
                        "cost_per_interaction_cents": None if each is None else round(each, 10),
                    }
                )
        rows.sort(key=lambda row: (-row["cost_cents"], row["model"], row["currency"]))
        none = {"model": None, "cost_per_interaction_cents": None, **_counts([])}
        for currency in sorted({use.currency for use in self.now}):
            charged = sum(u.paid for u in self.now if u.currency == currency and u.product_type is None)
            rest = charged - sum((row["paid_spent"] for row in rows if row["currency"] == currency), Decimal(0))
            if rest:
                rows.append({**none, **self.earned(rest, Decimal(0), currency)})
        return rows

    def margin_agents(self) -> list[dict[str, Any]]:
        charged = [use for use in self.now if use.product_type is None]
        shares = self.shares()
        names = {(use.agent_id or "", use.currency) for use in charged}
        names |= {(share.agent_id, share.interaction.currency) for share in shares if share.counts["interactions"]}
        rows = []
        for agent_id, currency in names:
            uses = [use for use in charged if (use.agent_id or "", use.currency) == (agent_id, currency)]
            served = [s for s in shares if (s.agent_id, s.interaction.currency) == (agent_id, currency)]
            cost = _counts(served)["cost_cents"]
            paid = sum(use.paid for use in uses)
            rows.append({"agent_id": agent_id or None, "uses": len(uses), **self.earned(paid, cost, currency)})
        return sorted(rows, key=lambda r: (-r["paid_spent"], -r["cost_cents"], r["agent_id"] or "", r["currency"]))

    def margin_tools(self) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], list[Use]] = defaultdict(list)
        for use in self.now:
            if use.product_type is not None:
                groups[use.product_type, use.currency].append(use)
        rows = [
            {
                "product_type": tool,
                "currency": currency,
                "uses": len(uses),
                "product_free": sum(use.product_free for use in uses),
                "product_paid": sum(use.product_paid for use in uses),
                "paid_spent": sum(use.paid for use in uses),
                "revenue_cents": self.revenue_cents(sum(use.paid for use in uses), currency),
            }
            for (tool, currency), uses in groups.items()
        ]
        return sorted(rows, key=lambda r: (-r["paid_spent"], -r["uses"], r["product_type"], r["currency"]))


def _counts(shares: Iterable[Share]) -> dict[str, Any]:
    shares = list(shares)
    names = ("interactions", *COUNTS)
    return {name: sum((share.counts[name] for share in shares), Decimal(0)) for name in names}


def _is_money(name: str, value: Any) -> bool:
    return isinstance(value, str) and name in (*AMOUNTS, *MOVED, "balance", "grants")


def exact(value: Any) -> Any:
    """A reply with its exact decimals as numbers, so that 1.50 is 1.5."""
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {
            k: Decimal(v) if (k.endswith(("_cents", "paid_spent")) or _is_money(k, v)) and v is not None else exact(v)
            for k, v in value.items()
        }
    return value
