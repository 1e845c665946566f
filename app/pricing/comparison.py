"""The difference between two documents of price books, price by price. For an admin who decides about a proposal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from app.pricing.book import BookDocument

PROVENANCE = frozenset(("source", "source_version", "others", "note"))
"""Fields of a row that price nothing."""

ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


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
    changes: list[Change] = []
    for section, news in _sections(after).items():
        olds = old.get(section, {})
        for row in dict.fromkeys((*olds, *news)):
            if olds.get(row) != news.get(row):  # most rows of an import are as they were
                changes += _changes(section, row, olds.get(row), news.get(row))
    return changes


def _sections(document: BookDocument) -> dict[str, dict[str, Any]]:
    """Return section -> row id -> row. The section `book` has one row, without an id: the book's own fields."""
    fields = {name: getattr(document, name) for name in BookDocument.model_fields if name != "notices"}
    lists = {name: value for name, value in fields.items() if isinstance(value, list)}
    own = {name: value for name, value in fields.items() if name not in lists}
    return {"book": {"": own}, **{name: {row.id: row for row in rows} for name, rows in lists.items()}}


def _changes(section: str, row: str, before: Any, after: Any) -> Iterator[Change]:
    if before is None:
        yield Change("added", section, row, "", None, _summary(_texts(after)))
    elif after is None:
        yield Change("removed", section, row, "", _summary(_texts(before)), None)
    else:
        old, new = _texts(before), _texts(after)
        for field in dict.fromkeys((*old, *new)):
            if old.get(field) != new.get(field):
                yield Change("changed", section, row, field, old.get(field), new.get(field))


def _texts(row: Any) -> dict[str, str]:
    """Return field -> text."""
    return dict(_fields("", ANYTHING.dump_python(row, mode="json")))


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
