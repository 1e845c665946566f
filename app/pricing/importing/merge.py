"""Merges two sources of prices into rows: agreed, disputed or single-source, and these into a proposal."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from app.pricing.book import BookDocument, Hours, LlmRow, OtherSource, Rates, Status, Tariff, fold
from app.pricing.importing.listing import Listing, Period, Source, with_ends
from app.pricing.usage import TokenClass

KEPT_FOR = timedelta(days=100)
"""Prices that ended earlier are left out: no event is so late."""
COMPARED: tuple[TokenClass, ...] = ("input_uncached", "output_text", "cache_read", "cache_write_5m", "cache_write_1h")
"""The classes that both sources can state."""
BOUNDARY = 1
"""Providers write "above 200k" and "from 200k"; the sources translate that into bounds that differ by one token."""
FREE = "listed as free"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of one period of one exact id."""

    status: Status
    other: OtherSource | None = None


def differences(mine: Tariff, theirs: Tariff) -> list[str]:
    """Return the names of the prices that both tariffs state and that differ.

    Where a mode has the standard price, its source may say nothing about the mode: that is no difference.
    """
    found = _rate_differences(mine, theirs)
    for mode in mine.modes.keys() & theirs.modes.keys():
        for name in _rate_differences(mine.modes[mode], theirs.modes[mode]):
            if not any(_is_standard(tariff, mode, name) for tariff in (mine, theirs)):
                found.append(f"{mode} {name}")
    if _by_time(mine) != _by_time(theirs):
        found.append("hours")
    return found


def _rate_differences(mine: Rates, theirs: Rates) -> list[str]:
    common = [name for name in COMPARED if name in mine.prices and name in theirs.prices]
    found: list[str] = [name for name in common if mine.prices[name] != theirs.prices[name]]
    if len(mine.steps) != len(theirs.steps):
        return [*found, "steps"]
    for my_step, their_step in zip(mine.steps, theirs.steps, strict=True):
        if abs(my_step.above - their_step.above) > BOUNDARY:
            found.append(f"above {my_step.above}")
        my_prices, their_prices = mine.prices | my_step.prices, theirs.prices | their_step.prices
        found += [f"{name} above {my_step.above}" for name in common if my_prices[name] != their_prices[name]]
    return found


def _is_standard(tariff: Tariff, mode: Literal["batch", "priority"], name: str) -> bool:
    return name in COMPARED and tariff.modes[mode].prices[name] == tariff.prices.get(name)


def _by_time(tariff: Tariff) -> list[Hours]:
    return sorted(tariff.hours, key=lambda hours: (hours.mode, hours.start))


def rows_of(main: Source, other: Source, at: datetime) -> list[LlmRow]:
    """Return the rows of both sources. `at` is the time of the import: current prices must agree then."""
    theirs = {(listing.provider, fold(name)): listing for listing in other.listings for name in listing.names}
    rows = [row for listing in main.listings for row in _compared_rows(listing, main, other, theirs, at)]
    known = {(listing.provider, fold(name)) for listing in main.listings for name in listing.names}
    for listing in other.listings:
        if (listing.provider, fold(listing.names[0])) not in known:
            verdicts = [Verdict("single_source") for _ in _recent(listing, at)]
            rows += _rows(listing, other, listing.names, verdicts, at)
    return sorted(rows, key=lambda row: row.id)


def _compared_rows(
    listing: Listing, main: Source, other: Source, theirs: Mapping[tuple[str, str], Listing], at: datetime
) -> Iterator[LlmRow]:
    """Yield the rows of a model: one per period for all names with the same result of the comparison."""
    groups: list[tuple[list[str], list[Verdict]]] = []
    for name in listing.names:
        match = theirs.get((listing.provider, fold(name)))
        verdicts = [_verdict(period, end, match, other, at) for period, end in _recent(listing, at)]
        for names, alike in groups:
            if alike == verdicts:
                names.append(name)
                break
        else:
            groups.append(([name], verdicts))
    for names, verdicts in groups:
        yield from _rows(listing, main, names, verdicts, at)


def _recent(listing: Listing, at: datetime) -> list[tuple[Period, datetime | None]]:
    return [(period, end) for period, end in with_ends(listing.periods) if end is None or end > at - KEPT_FOR]


def _rows(
    listing: Listing, source: Source, names: Sequence[str], verdicts: Sequence[Verdict], at: datetime
) -> Iterator[LlmRow]:
    model, *aliases = names
    for (period, _), verdict in zip(_recent(listing, at), verdicts, strict=True):
        day = "" if period.start is None else f"@{period.start:%Y-%m-%dT%H:%M}"
        status, note = verdict.status, period.note
        if status == "single_source" and not any(period.tariff.prices.values()):
            status, note = "disputed", "; ".join(filter(None, (FREE, note)))
        if not period.is_complete:
            status = "disputed"
        yield LlmRow(
            id=f"{listing.provider}/{model}{day}",
            provider=listing.provider,
            model=model,
            aliases=aliases,
            valid_from=period.start,
            source=source.name,
            source_version=source.version,
            status=status,
            others=[] if verdict.other is None else [verdict.other],
            note=note,
            **{name: getattr(period.tariff, name) for name in Tariff.model_fields},
        )


def _verdict(period: Period, end: datetime | None, match: Listing | None, other: Source, at: datetime) -> Verdict:
    """Compare a period with another source's listing of the same exact id.

    A current price must agree at the time of the import. An earlier price must agree at some time: sources notice a
    change on different days.
    """
    if match is None or (period.start is not None and period.start > at):
        return Verdict("single_source")
    is_current = end is None or end > at
    theirs = _valid_at(match, at) if is_current else _valid_during(match, period, end)
    if not theirs:
        return Verdict("single_source")
    found = [(each, differences(period.tariff, each.tariff)) for each in theirs]
    if any(not differing for _, differing in found):
        return Verdict("agreed", OtherSource(source=other.name, source_version=other.version))
    last, differing = found[-1]
    note = "; ".join(filter(None, (f"differs: {', '.join(differing)}", last.note)))
    return Verdict(
        "disputed",
        OtherSource(source=other.name, source_version=other.version, tariff=last.tariff, note=note),
    )


def _valid_at(listing: Listing, at: datetime) -> list[Period]:
    return [period for period in listing.periods if period.start is None or period.start <= at][-1:]


def _valid_during(listing: Listing, mine: Period, end: datetime | None) -> list[Period]:
    return [
        period
        for period, their_end in with_ends(listing.periods)
        if (end is None or period.start is None or period.start < end)
        and (their_end is None or mine.start is None or their_end > mine.start)
    ]


def proposal(base: BookDocument, rows: Iterable[LlmRow], sources: Sequence[Source]) -> BookDocument:
    """Return the base with its imported rows replaced by these, as `replace_rows` does."""
    notices = [notice for source in sources for notice in source.notices]
    return replace_rows(base, rows, {source.name for source in sources}, notices)


def replace_rows(
    base: BookDocument, rows: Iterable[LlmRow], imported: Set[str], notices: Sequence[str]
) -> BookDocument:
    """Return the base with its rows of the imported sources replaced.

    The base's other rows, rules and policies stay, and its own rows replace imported ones of the same ids. A provider
    that they name becomes no alias: they would no longer apply. A confirmed row stays confirmed until one of its
    sources changes its prices.
    """
    kept = [row for row in base.llm if row.source not in imported]
    own = {(fold(row.provider), fold(name)) for row in kept for name in (row.model, *row.aliases)}
    named = {fold(provider) for provider in (*(r.provider for r in kept), *(r.provider or "" for r in base.markups))}
    decided = {row.id: row for row in base.llm if row.source in imported and row.status == "confirmed"}
    for row in rows:
        names = [name for name in (row.model, *row.aliases) if (fold(row.provider), fold(name)) not in own]
        if names:
            free = row.model_copy(update={"model": names[0], "aliases": names[1:]})
            kept.append(_decided(free, decided.get(row.id)))
    return BookDocument.model_validate(
        {name: getattr(base, name) for name in BookDocument.model_fields}
        | {
            "llm": kept,
            "provider_aliases": {alias: name for alias, name in PROVIDER_ALIASES.items() if alias not in named}
            | base.provider_aliases,
            "notices": list(dict.fromkeys((*base.notices, *notices))),
        }
    )


def _decided(row: LlmRow, earlier: LlmRow | None) -> LlmRow:
    if row.status != "disputed" or earlier is None or _options(row) != _options(earlier):
        return row
    return earlier.model_copy(update={"model": row.model, "aliases": row.aliases})


def _options(row: LlmRow) -> list[tuple[str, Tariff]]:
    """Return what each source says, in a fixed order."""
    found = [(row.source, row.tariff)]
    found += [(other.source, other.tariff) for other in row.others if other.tariff is not None]
    return sorted(found, key=lambda option: option[0])


PROVIDER_ALIASES = {
    "amazon-bedrock": "aws",
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "moonshot": "moonshotai",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""The names that OpenTelemetry and LiteLLM use for providers of genai-prices."""
