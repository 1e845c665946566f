"""Refusals of usage events: the error of an event that was not paid, and its remedies. Pure."""

from collections.abc import Sequence
from datetime import datetime

from app.ledger.money import decimal_text
from app.metering.errors import InsufficientMoney
from app.metering.events import Unpaid, UsageEvent
from app.pricing.alternatives import cheaper_model
from app.pricing.compiled import PriceBook
from app.pricing.usage import LlmTokens
from app.refusals.remedies import smaller
from app.refusals.schemas import CheaperModel, Remedy


def insufficient_money(unpaid: Unpaid, remedies: Sequence[Remedy] = ()) -> InsufficientMoney:
    return InsufficientMoney(
        available=unpaid.available,
        required=unpaid.required,
        currency=unpaid.currency,
        affordable=unpaid.affordable,
        debt_limit_reached=unpaid.debt_limit_reached,
        remedies=remedies,
    )


def remedies_of(unpaid: Unpaid, event: UsageEvent, book: PriceBook | None, at: datetime) -> list[Remedy]:
    """Return the remedies of an event. `book` is the price book in force at the event's time, `at`."""
    return [*smaller(unpaid.currency, unpaid.affordable), *_cheaper_model(unpaid, event, book, at)]


def _cheaper_model(unpaid: Unpaid, event: UsageEvent, book: PriceBook | None, at: datetime) -> list[Remedy]:
    usage = event.usage
    if book is None or event.stated is not None or not isinstance(usage, LlmTokens):
        return []
    tool, plan = event.attribution.tool, unpaid.plan_name
    found = cheaper_model(
        book, usage, at=at, plan=plan, plan_markup=unpaid.plan_markup, tool=tool, most_nanos=unpaid.affordable
    )
    if found is None:
        return []
    return [
        CheaperModel(
            provider=usage.provider,
            model=found.model,
            cost=decimal_text(found.cost_nanos),
            currency=unpaid.currency,
            price_version=found.price_version,
        )
    ]
