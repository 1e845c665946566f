"""Pages as the neighbours' clients ask for them: `limit` and `offset` in the query, 400 for anything but a number."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query
from pydantic import WithJsonSchema

from app.errors import AppError

DEFAULT_LIMIT = 50
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


class NotANumber(AppError):
    """A number in the query is not one, or is negative. The neighbours' clients expect 400 for it."""

    status, code = 400, "not_a_number"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} must be a whole number of at least 0", figures={"field": field})


@dataclass(frozen=True, slots=True)
class Page:
    limit: int
    offset: int


Number = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 0})]


def page_up_to(largest: int) -> Callable[..., object]:
    """Return the dependency of a list whose `limit` is capped without an error."""

    async def page(
        limit: Annotated[Number, Query(description=f"{largest} at most; a larger number counts as {largest}.")] = str(
            DEFAULT_LIMIT
        ),
        offset: Number = "0",
    ) -> Page:
        return Page(min(_number("limit", limit), largest), _number("offset", offset))

    return page


def limit_up_to(largest: int, default: int) -> Callable[..., object]:
    """Return the dependency of a list that pages by cursor. Its `limit` is capped without an error, and at least 1."""

    async def limit(
        limit: Annotated[Number, Query(description=f"{largest} at most; a larger number counts as {largest}.")] = str(
            default
        ),
    ) -> int:
        return max(1, min(_number("limit", limit), largest))

    return limit


def _number(field: str, text: str) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise NotANumber(field)
    return int(text)
