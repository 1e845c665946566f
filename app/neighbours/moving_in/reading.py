"""Reading an export: JSON Lines, or CSV with a header. Every row is checked before anything is written."""

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.neighbours.moving_in.export import BrokenRow, Export, Origin, Row
from app.neighbours.moving_in.records import RECORDS

MAX_LINE_CHARS = 65_536
MAX_EXPONENT = 99


def read_export(origin: Origin, file: Path) -> Export:
    """Return the file's content. A name that ends in `.csv` is CSV, any other JSON Lines.

    Raises OSError, and BrokenRow for the first row that cannot be imported.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            found = _csv(lines) if file.suffix.lower() == ".csv" else _json_lines(lines)
            return Export.of(origin, [_row(origin, line, values) for line, values in found])
        except UnicodeDecodeError as error:
            raise BrokenRow(0, f"the file is not UTF-8 at byte {error.start}") from None


def _json_lines(lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_CHARS:
            raise BrokenRow(number, f"is longer than {MAX_LINE_CHARS} characters")
        try:
            values = json.loads(line, parse_float=_number)
        except (ValueError, RecursionError) as error:
            raise BrokenRow(number, f"is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise BrokenRow(number, "is no JSON object")
        yield number, values


def _number(text: str) -> Decimal | str:
    """Return a number with a fraction or an exponent. One with a huge exponent stays text, which no amount accepts:
    as a whole number it would have millions of digits."""
    number = Decimal(text)
    return number if abs(int(number.as_tuple().exponent)) <= MAX_EXPONENT else text


def _csv(lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the rows. An empty cell is an absent field."""
    reader = csv.DictReader(lines, strict=True)
    try:
        names = reader.fieldnames or ()
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
            raise BrokenRow(1, f"has two columns {twice[:64]}")
        for values in reader:
            if None in values or None in values.values():
                raise BrokenRow(reader.line_num, "has another number of cells than the header")
            yield reader.line_num, {name: value for name, value in values.items() if value != ""}
    except csv.Error as error:
        raise BrokenRow(reader.line_num, f"is no CSV: {error}") from None


def _row(origin: Origin, line: int, values: dict[str, Any]) -> Row:
    records = RECORDS[origin]
    record = records.get(values.get("record", "")) if isinstance(values.get("record", ""), str) else None
    if record is None:
        raise BrokenRow(line, f"record: must be one of {', '.join(records)}")
    try:
        return record.model_validate(values).row(line)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BrokenRow(line, f"{field}: {first['msg']}") from None
    except ValueError as error:
        raise BrokenRow(line, str(error)) from None
