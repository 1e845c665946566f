"""Reads the package model-prices, with which the rows of genai-prices are compared."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_EVEN, Decimal
from importlib import resources
from typing import Any

from pydantic import ValidationError

from app.pricing.book import Hours, Prices, Rates, Step, Tariff
from app.pricing.importing.listing import Listing, Period, Source, merged
from app.pricing.usage import TokenClass

PACKAGE = "model-prices"
SCHEMA = 1
PROVIDERS: Mapping[str, str] = {"xai": "x-ai", "amazon-bedrock": "aws"}
"""Providers that genai-prices names differently."""
CLASSES: Mapping[str, TokenClass] = {
    "input": "input_uncached",
    "output": "output_text",
    "cache_read": "cache_read",
    "cache_write": "cache_write_5m",
}
PLACES = Decimal("1E-9")
"""The package computes some prices in binary floating point: 0.30000000000000004 is 0.3."""


def read() -> Source:
    """Return the data of the installed package. Raises ImportError without it, ValueError for another data format."""
    snapshot = json.loads(
        resources.files("model_prices").joinpath("snapshot.json").read_text(encoding="utf-8"), parse_float=Decimal
    )
    if snapshot["schema"] != SCHEMA:
        raise ValueError(f"{PACKAGE} has data of schema {snapshot['schema']}, not {SCHEMA}")
    source = Source.of_package(PACKAGE)
    for provider, models in snapshot["prices"].items():
        for model, modes in models.items():
            where = f"{provider}/{model}"
            if snapshot["status"].get(provider, {}).get(model) == "removed":
                source.skipped.append(f"{where}: removed by its provider")
                continue
            try:
                periods = merged(_periods(snapshot["schedules"], provider, model, modes))
            except ValidationError as error:
                source.skipped.append(f"{where}: {error.errors()[0]['msg']}")
                continue
            if periods:
                source.listings.append(Listing(PROVIDERS.get(provider, provider), (model,), periods))
    return source


def _periods(schedules: Any, provider: str, model: str, modes: Any) -> Iterator[Period]:
    """Yield the model's tariff at each moment at which a price or a rule of hours starts or ends."""
    rules = [rule for rule in schedules["schedule"] if rule["provider"] == provider]
    starts = {_time(item["start"]) for mode in ("standard", "batch") for item in modes.get(mode, ())}
    starts |= {_time(rule[name]) for rule in rules for name in ("valid_from", "valid_until") if name in rule}
    for start in sorted(starts | {_time(None)}):
        standard = _at(modes["standard"], start)
        if standard is None:
            continue
        rates = _rates(standard)
        batch = _at(modes.get("batch", ()), start)
        tariff = Tariff(
            prices=rates.prices,
            steps=rates.steps,
            modes={} if batch is None else {"batch": _rates(batch)},
            hours=[
                hours
                for rule in rules
                if _time(rule["valid_from"]) <= start
                and ("valid_until" not in rule or start < _time(rule["valid_until"]))
                for hours in _hours(rule, schedules["holidays"], model, rates)
            ],
        )
        yield Period(None if start == _time(None) else start, tariff, str(standard["source"]))


def _at(intervals: Any, moment: datetime) -> Any | None:
    """Return the rates of the last interval that has started."""
    begun = [interval for interval in intervals if _time(interval["start"]) <= moment]
    return begun[-1]["rates"] if begun else None


def _time(text: str | None) -> datetime:
    return datetime.min.replace(tzinfo=UTC) if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _rates(stored: Mapping[str, Any]) -> Rates:
    multiple = stored.get("cache_write_1h_multiple")
    tiers = stored.get("tiers", ())
    return Rates(
        prices=_prices(stored, multiple),
        steps=[Step(above=tier["above"], prices=_prices(tier, multiple)) for tier in tiers],
    )


def _prices(stored: Mapping[str, Any], multiple: Any) -> Prices:
    prices = {
        token_class: _rounded(stored[name]) for name, token_class in CLASSES.items() if stored.get(name) is not None
    }
    if multiple is not None and "input_uncached" in prices:
        prices["cache_write_1h"] = _rounded(prices["input_uncached"] * multiple)
    return prices


def _rounded(price: Any) -> Decimal:
    exact = Decimal(price).quantize(PLACES, ROUND_HALF_EVEN).normalize()
    return exact.quantize(Decimal(1)) if exact == exact.to_integral_value() else exact


def _hours(rule: Any, holidays: Any, model: str, rates: Rates) -> Iterator[Hours]:
    """Yield the hours in which a rule multiplies the prices of a model."""
    for kind in ("peak", "off_peak"):
        multiplier = rule.get(f"{kind}_multiplier")
        if isinstance(multiplier, dict):
            multiplier = multiplier.get(model)
        if multiplier is None:
            continue
        factor = Decimal(multiplier)
        calendar = holidays.get(rule.get("holidays"), {"dates": []})
        for start, end in rule[f"{kind}_hours_utc"]:
            yield Hours(
                start=time.fromisoformat(start),
                end=time.fromisoformat(end),
                weekdays=[0, 1, 2, 3, 4] if rule.get("weekdays_only") else None,
                except_dates=[date.fromisoformat(day) for day in calendar["dates"]],
                prices=_times(rates.prices, factor),
                steps=[Step(above=step.above, prices=_times(step.prices, factor)) for step in rates.steps],
            )


def _times(prices: Prices, factor: Decimal) -> Prices:
    return {token_class: _rounded(price * factor) for token_class, price in prices.items()}
