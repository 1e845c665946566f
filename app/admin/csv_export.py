"""Whole lists as files for spreadsheets, a page in memory at a time, whatever the length."""

import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from fastapi.responses import StreamingResponse

from app.admin.queries import Row

EXPORTED_AT_ONCE = 1000
NextPage = Callable[[Row | None, int], Awaitable[Sequence[Row]]]
"""So many rows, or those that are left, after this one; None for the first ones."""


async def csv_file(name: str, columns: Sequence[str], next_page: NextPage) -> StreamingResponse:
    """Between two pages no connection is held."""
    first = await next_page(None, EXPORTED_AT_ONCE)  # so that what cannot be read is told by the status
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    lines = _lines(columns, next_page, first)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(columns: Sequence[str], next_page: NextPage, page: Sequence[Row]) -> AsyncIterator[str]:
    yield _csv([columns])
    while page:
        yield _csv([_cell(row[name]) for name in columns] for row in page)
        if len(page) < EXPORTED_AT_ONCE:
            return
        page = await next_page(page[-1], EXPORTED_AT_ONCE)


def _csv(rows: Iterable[Iterable[str]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


def _cell(value: object) -> str:
    """Text that a spreadsheet takes for text: a leading sign would make it a formula."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
