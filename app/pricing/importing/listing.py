"""Listing: a model's prices over time, as one source has them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from itertools import pairwise
from typing import Self

from app.pricing.book import Tariff


@dataclass(frozen=True, slots=True)
class Period:
    """A tariff from a moment on. None: since always."""

    start: datetime | None
    tariff: Tariff
    note: str = ""
    is_complete: bool = True
    """False: a call costs more than its tokens, and an admin decides whether their price is enough."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A model of a provider. `names` are its exact ids, the source's own id first if calls can use it."""

    provider: str
    names: tuple[str, ...]
    periods: tuple[Period, ...]


@dataclass(slots=True)
class Source:
    """A package of price data, read. `skipped` says what was not imported, and why."""

    name: str
    version: str
    notices: list[str]
    listings: list[Listing] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def of_package(cls, name: str) -> Self:
        """Return the source without listings: the installed version of a package, and its licences as the notice."""
        distribution = metadata.distribution(name)
        files = [file for file in distribution.files or () if "licenses" in file.parts]
        licences = "\n\n".join(file.read_text().strip() for file in files)
        return cls(name, distribution.version, [f"{name}\n\n{licences}"])


def merged(periods: Iterable[Period]) -> tuple[Period, ...]:
    """Return the periods without those that repeat the tariff before them."""
    kept: list[Period] = []
    for period in periods:
        if not kept or period.tariff != kept[-1].tariff:
            kept.append(period)
    return tuple(kept)


def with_ends(periods: Sequence[Period]) -> list[tuple[Period, datetime | None]]:
    """Return each period with the start of the next one. None: it has not ended."""
    ends = [later.start for _, later in pairwise(periods)]
    return list(zip(periods, [*ends, None], strict=True))
