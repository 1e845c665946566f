"""The wire format of the back office. Credits are whole credits here, never hundredths; prices are minor units."""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from app.http.schemas import Key255, Reply, Timestamp
from app.timestamps import FIRST_YEAR, LAST_YEAR, bounded

Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True, pattern=r"^[^\x00]+$")]


Moment = Annotated[Timestamp, AfterValidator(bounded), Field(description=f"Of the years {FIRST_YEAR} to {LAST_YEAR}.")]
"""A time in a request."""

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def _trimmed(text: str) -> str:
    """The text without the blanks, line breaks and invisible signs around it."""
    kept = [i for i, sign in enumerate(text) if not sign.isspace() and unicodedata.category(sign) not in _INVISIBLE]
    if not kept:
        raise ValueError("holds nothing but blanks")
    return text[kept[0] : kept[-1] + 1]


Pasted = Annotated[Key255, AfterValidator(_trimmed)]
"""A text to look for, which may have been pasted with blanks around it."""

PAGE = {"sort", "limit", "cursor"}
"""Of what a list is asked for, all that is no filter."""


class ReasonBody(Reply):
    reason: Reason


class Person(Reply):
    """Who an account belongs to, as far as it is known. Of an erased person nothing is."""

    customer_email: str | None
    display_name: str | None
    external_id: str | None
    erased: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Person":
        return cls(**{name: row[name] for name in cls.model_fields})
