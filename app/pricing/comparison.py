"""The difference between two documents of price books, price by price. For an admin who decides about a proposal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.pricing.book import BookDocument

PROVENANCE = frozenset(("source", "source_version", "others", "note"))
"""Fields of a row that price nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed value. `row` is the id of a row or rule, or empty for the book's own fields."""

    kind: Literal["added", "removed", "changed"]
    section: str
    row: str
    field: str
    before: str | None
    after: str | None


def compare(before: BookDocument | None, after: BookDocument) -> list[Change]:
    """Return what a document changes about another one (None: about no book), without changes of provenance alone."""
    old = {} if before is None else _sections(before)
    new = _sections(after)
    changes: list[Change] = []
    for section in dict.fromkeys((*old, *new)):
        olds, news = old.get(section, {}), new.get(section, {})
        for row in dict.fromkeys((*olds, *news)):
            if row not in olds:
                changes.append(Change("added", section, row, "", None, _summary(news[row])))
            elif row not in news:
                changes.append(Change("removed", section, row, "", _summary(olds[row]), None))
            else:
                changes += _changed(section, row, olds[row], news[row])
    return changes


def _sections(document: BookDocument) -> dict[str, dict[str, dict[str, str]]]:
    """Return section -> row id -> field -> text."""
    stored = document.model_dump(mode="json", exclude={"notices"})
    own: dict[str, str] = {}
    sections: dict[str, dict[str, dict[str, str]]] = {"book": {"": own}}
    for name, value in stored.items():
        if isinstance(value, list):
            sections[name] = {item["id"]: dict(_fields("", item)) for item in value}
        else:
            own.update(_fields(name, value))
    return sections


def _fields(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each leaf of a value with the path to it, without provenance."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name not in PROVENANCE:
                yield from _fields(f"{path}.{name}" if path else name, part)
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for place, part in enumerate(value):
            yield from _fields(f"{path}[{place}]", part)
    elif value is not None and value != [] and path != "id":
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _summary(fields: Mapping[str, str]) -> str:
    shown = {name.removeprefix("prices."): value for name, value in fields.items() if "[" not in name}
    left_out = ("provider", "model", "aliases", "valid_from")
    return ", ".join(f"{name} {value}" for name, value in shown.items() if name not in left_out)


def _changed(section: str, row: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for field in dict.fromkeys((*before, *after)):
        if before.get(field) != after.get(field):
            yield Change("changed", section, row, field, before.get(field), after.get(field))
