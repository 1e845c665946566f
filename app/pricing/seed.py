"""The shipped price data: a proposal that `prices import` made from both sources, for installations without them."""

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from app.pricing.book import BookDocument

FILE = "open-prices.json"


def read() -> BookDocument:
    """Return the shipped document. It contains both sources' licences."""
    return BookDocument.model_validate_json(resources.files("app.pricing.data").joinpath(FILE).read_bytes())


def write(document: BookDocument, path: Path) -> None:
    """Write a document as JSON with one row per line, so that a later import's difference can be reviewed."""
    stored = document.model_dump(mode="json", exclude_defaults=True)
    rows = stored.pop("llm", [])
    head = json.dumps(stored, indent=1, ensure_ascii=False)
    path.write_text("".join(_lines(head, rows)), encoding="utf-8")


def _lines(head: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield head.removesuffix("\n}")
    if rows:
        yield ',\n "llm": [\n'
        yield ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        yield "\n ]"
    yield "\n}\n"
