"""Figures of money in reports: sums in nanos as wire types."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.admin.analytics.schemas import MeteredSum, Money, MoneyBalance
from app.analytics.metered_reports import MOVEMENTS, MeteredBy
from app.ledger.money import decimal_text

Row = Mapping[str, Any]
_AMOUNTS = ("cost", "recorded", "provider_cost", "margin")
_COUNTS = ("currency", "events", "refused", "without_provider_cost")


def money_of(row: Row) -> Money:
    """Return the figures of a row of `list_money`."""
    moved = {name: decimal_text(int(row[name])) for name in MOVEMENTS if name != "other_debt"}
    return Money(**_metered(row), **moved, debt=decimal_text(int(row["debt_nanos"] + row["other_debt"])))


def group_of(row: Row, column: MeteredBy, names: Mapping[str, str]) -> MeteredSum:
    """Return the figures of a row of `list_metered_by`."""
    group = row[column] or None
    return MeteredSum(**_metered(row), group=group, provider=row.get("provider") or None, name=names.get(row[column]))


def balances_of(rows: Sequence[Row]) -> list[MoneyBalance]:
    """Return the figures of rows of `list_balances`."""
    return [
        MoneyBalance(
            currency=row["currency"],
            balance=decimal_text(int(row["money_nanos"])),
            grants=decimal_text(int(row["grants_nanos"])),
            debt=decimal_text(int(row["debt_nanos"])),
        )
        for row in rows
    ]


def _metered(row: Row) -> dict[str, Any]:
    amounts = {name: decimal_text(int(row[f"{name}_nanos"])) for name in _AMOUNTS}
    return {**{name: row[name] for name in _COUNTS}, **amounts}
