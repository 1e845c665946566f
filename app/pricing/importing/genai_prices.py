"""Reads the package genai-prices.

Only exact model ids: the package also matches models by prefix and substring, which prices some models at another
model's rate.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Literal

from pydantic import ValidationError

from app.pricing.book import Hours, Prices, Rates, Step, Tariff
from app.pricing.importing.listing import Listing, Period, Source, merged
from app.pricing.usage import TokenClass

PACKAGE = "genai-prices"
CLASSES: Mapping[str, TokenClass] = {
    "input_mtok": "input_uncached",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_5m_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output_text",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_in",
    "output_audio_mtok": "audio_out",
    "input_image_mtok": "image_in",
    "output_image_mtok": "image_out",
}
FEES_OF_TOOLS = frozenset(("web_searches_kcount", "storage_searches_kcount"))
"""Charged per call of a tool, which is reported as separate usage."""
DISCOUNTS = frozenset(("cache_audio_read_mtok", "cache_image_read_mtok"))
"""Without them, tokens cost the price of the class `cache_read`, or more."""
MODES: Mapping[tuple[str, str], Literal["batch", "priority"]] = {
    ("processing", "batch"): "batch",
    ("service_tier", "priority"): "priority",
}


def read() -> Source:
    """Return the data of the installed package. Raises ImportError without it."""
    from genai_prices.data import providers

    source = Source.of_package(PACKAGE)
    for provider in providers:
        taken: set[str] = set()
        for model in provider.models:
            names = [name for name in _names(model) if name.casefold() not in taken]
            taken.update(name.casefold() for name in names)
            try:
                periods = merged(_periods(model))
            except ValidationError as error:
                source.skipped.append(f"{provider.id}/{model.id}: {error.errors()[0]['msg']}")
                continue
            if not names:
                source.skipped.append(f"{provider.id}/{model.id}: no exact id")
            elif not periods:
                source.skipped.append(f"{provider.id}/{model.id}: no price of tokens")
            else:
                source.listings.append(Listing(provider.id, tuple(names), periods))
    return source


def _names(model: Any) -> Iterator[str]:
    """Yield the model's own id, if calls can name it, and the other ids that its rule lists exactly."""
    if model.is_match(model.id):
        yield model.id
    yield from (name for name in _listed(model.match) if name.casefold() != model.id.casefold())


def _listed(clause: Any) -> Iterator[str]:
    if hasattr(clause, "equals"):
        yield clause.equals
    for part in getattr(clause, "or_", ()):
        yield from _listed(part)


def _periods(model: Any) -> Iterator[Period]:
    """Yield the model's tariff at each moment at which one of its prices starts."""
    conditional = model.prices if isinstance(model.prices, list) else []
    dates = {_start(item.constraint) for item in (*conditional, *(model.price_variants or ()))}
    for start in sorted(date for date in {datetime.min.replace(tzinfo=UTC), *dates} if date is not None):
        found = _tariff(model, start)
        if found is not None:
            tariff, left_out = found
            note = f"not imported: {', '.join(sorted(left_out))}" if left_out else ""
            is_complete = left_out <= FEES_OF_TOOLS | DISCOUNTS
            yield Period(None if start.year == 1 else start, tariff, note, is_complete=is_complete)


def _start(constraint: Any) -> datetime | None:
    date = getattr(constraint, "start_date", None)
    return None if date is None else datetime.combine(date, time(0), UTC)


def _has_begun(item: Any, at: datetime) -> bool:
    start = _start(item.constraint)
    return start is None or start <= at


def _tariff(model: Any, at: datetime) -> tuple[Tariff, set[str]] | None:
    """Return the tariff at a time, and the prices that it leaves out. The last condition that holds counts."""
    standard: Any = None
    hours: list[tuple[Any, Any]] = []
    items = model.prices if isinstance(model.prices, list) else None
    if items is None:
        standard = model.prices
    else:
        for item in reversed(items):
            if hasattr(item.constraint, "start_time"):
                hours.append((item.constraint, item.prices))
            elif _has_begun(item, at):
                standard = item.prices
                break
        else:
            standard = items[0].prices
    values = _values(standard)
    rates = _rates(values)
    if rates is None:
        return None
    modes = {
        mode: _rates(values | _variant(model, when, at)) for when, mode in MODES.items() if _variant(model, when, at)
    }
    tariff = Tariff(
        prices=rates.prices,
        steps=rates.steps,
        modes={mode: found for mode, found in modes.items() if found is not None},
        hours=[rule for constraint, prices in hours if (rule := _hours(constraint, _values(prices))) is not None],
    )
    return tariff, set(values) - set(CLASSES)


def _values(prices: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(prices).items() if value is not None}


def _variant(model: Any, when: tuple[str, str], at: datetime) -> dict[str, Any]:
    """Return the prices that a mode changes. The first variant that applies counts, separately for each price."""
    found: dict[str, Any] = {}
    for variant in model.price_variants or ():
        if dict(variant.when) == dict([when]) and _has_begun(variant, at):
            found = _values(variant.prices) | found
    return found


def _hours(constraint: Any, values: dict[str, Any]) -> Hours | None:
    rates = _rates(values)
    if rates is None:
        return None
    start, end = (moment.replace(tzinfo=None) for moment in (constraint.start_time, constraint.end_time))
    return Hours(start=start, end=end, prices=rates.prices, steps=rates.steps)


def _rates(values: Mapping[str, Any]) -> Rates | None:
    prices: Prices = {}
    steps: dict[int, Prices] = {}
    for name, token_class in CLASSES.items():
        value = values.get(name)
        if isinstance(value, Decimal):
            prices[token_class] = value
        elif value is not None:
            prices[token_class] = value.base
            for tier in value.tiers:
                steps.setdefault(tier.start, {})[token_class] = tier.price
    if not prices:
        return None
    return Rates(prices=prices, steps=[Step(above=above, prices=steps[above]) for above in sorted(steps)])
