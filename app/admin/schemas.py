"""Wire format of the back office. Credits are whole credits here, never hundredths; prices are minor units."""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from app.http.schemas import Key255, Reply, Timestamp
from app.timestamps import FIRST_YEAR, LAST_YEAR, bounded

Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True, pattern=r"^[^\x00]+$")]


Moment = Annotated[Timestamp, AfterValidator(bounded), Field(description=f"In the years {FIRST_YEAR} to {LAST_YEAR}.")]
"""A time in a request."""

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def _trimmed(text: str) -> str:
    """Return the text without surrounding blanks, line breaks and invisible characters."""
    kept = [i for i, sign in enumerate(text) if not sign.isspace() and unicodedata.category(sign) not in _INVISIBLE]
    if not kept:
        raise ValueError("must not be blank")
    return text[kept[0] : kept[-1] + 1]


Pasted = Annotated[Key255, AfterValidator(_trimmed)]
"""A search text, which may have been pasted with surrounding blanks."""

PAGE = {"sort", "limit", "cursor"}
"""The parameters of a list that are not filters."""


class ReasonBody(Reply):
    reason: Reason


class Person(Reply):
    """The known data of an account's person; all null once erased."""

    customer_email: str | None
    display_name: str | None
    external_id: str | None
    erased: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Person":
        return cls(**{name: row[name] for name in cls.model_fields})
