"""CSV export for spreadsheets: lists of any length, with one page in memory at a time.

Each file is RFC 4180 in UTF-8 with a byte order mark: without it, spreadsheets assume another encoding. The pages write
their tables by the same rules (admin-ui/src/logic/csv.ts); tests/admin/csv_cells.json tests both.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime

from fastapi.responses import StreamingResponse

from app.admin.audit.queries import Row

EXPORTED_AT_ONCE = 1000
BYTE_ORDER_MARK = "\ufeff"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FIRST_OF_FORMULAS = frozenset("=+-@\u2212")
NextPage = Callable[[Row | None, int], Awaitable[Sequence[Row]]]
"""Returns at most so many rows after the given one; None: from the start."""


async def csv_file(
    name: str, columns: Sequence[str], next_page: NextPage, record: Callable[[], Awaitable[None]] | None = None
) -> StreamingResponse:
    """Return the file as a response. `record` writes the audit row; nothing is sent before it is committed.

    No connection is held between two pages.
    """
    first = await next_page(None, EXPORTED_AT_ONCE)  # an error here can still set the status
    if record is not None:
        await record()
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    lines = _lines(columns, next_page, first)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(columns: Sequence[str], next_page: NextPage, page: Sequence[Row]) -> AsyncIterator[str]:
    yield BYTE_ORDER_MARK + _csv([columns])
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
    """Return the value as text that a spreadsheet treats as text, never as a formula."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
    return f"'{text}" if _is_formula(text) else text


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet may evaluate the text. Blanks and control characters before the first sign do not
    hide it, nor do its wide forms."""
    if _NUMBER.fullmatch(text):
        return False
    if text[:1] in ("\t", "\r", "\n"):
        return True
    shown = next((sign for sign in text if not sign.isspace() and unicodedata.category(sign) not in ("Cc", "Cf")), "")
    return unicodedata.normalize("NFKC", shown) in _FIRST_OF_FORMULAS
