"""Cheaper models: a model whose price for the same tokens is at most an amount. Pure, and only for refusals.

The rule: a model of the same provider in the same price book, by another name, that has a price for the same kinds of
content (text, audio, images), and costs less for these tokens. Among those that fit, the one whose list price is
nearest to the requested model's, because a dearer model usually can do more. The book does not rate a model's quality.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice

from app.pricing.book import LlmRow
from app.pricing.compiled import ModelRow, PriceBook, list_price
from app.pricing.engine import Priced, price
from app.pricing.usage import LlmTokens, TokenClass

CONTENT: frozenset[TokenClass] = frozenset(("output_text", "audio_in", "audio_out", "image_in", "image_out"))
MAX_PRICED = 16
"""Models that are priced for one refusal."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A model, and what the same tokens cost with it, in nanos of the book's currency."""

    model: str
    cost_nanos: int
    price_version: int


def cheaper_model(
    book: PriceBook,
    usage: LlmTokens,
    *,
    at: datetime,
    plan: str | None,
    tool: str | None,
    most_nanos: int,
    plan_markup: Decimal | None = None,
) -> Alternative | None:
    """Return a model with which the usage costs at most `most_nanos`; None if the book has none, or not the model."""
    found = book.model(usage, at)
    requested = price(book, usage, at=at, plan=plan, plan_markup=plan_markup, tool=tool)
    if not isinstance(found, ModelRow) or not isinstance(requested, Priced) or requested.cost_nanos <= most_nanos:
        return None
    ranked = book.by_list_price(book.canonical_provider(usage.provider))
    bound = list_price(found.row) * most_nanos / requested.cost_nanos  # below that, the tokens probably fit
    cheaper = reversed(ranked[: bisect_right(ranked, bound, key=list_price)])
    similar = (row for row in cheaper if row.model not in ("", found.row.model) and _has_content_of(row, found.row))
    for row in islice(similar, MAX_PRICED):
        other = LlmTokens(usage.provider, row.model, usage.tokens, usage.mode)
        priced = price(book, other, at=at, plan=plan, plan_markup=plan_markup, tool=tool)
        if isinstance(priced, Priced) and not priced.fallback and priced.cost_nanos <= most_nanos:
            return Alternative(row.model, priced.cost_nanos, priced.version)
    return None


def _has_content_of(row: LlmRow, other: LlmRow) -> bool:
    """Return whether a model takes and makes at least the content of another. One without output is no chat model."""
    has, needs = CONTENT & row.prices.keys(), CONTENT & other.prices.keys()
    return needs <= has and ("output_text" in needs) == ("output_text" in has)
