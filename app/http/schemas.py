"""Shared wire types: bounded strings, timestamps and error bodies, and the error replies that OpenAPI lists."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

MAX_INT64 = 2**63 - 1


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _rfc3339(value: datetime) -> str:
    moment = value if value.tzinfo is UTC else value.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


Text255 = Annotated[str, StringConstraints(max_length=255), AfterValidator(_no_nul)]
Key255 = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_no_nul)]
Label = Annotated[str, Field(coerce_numbers_to_str=True, max_length=255), AfterValidator(_no_nul)]
"""An id that is only passed through: chat platforms' numeric ids arrive as JSON numbers or as strings."""
RunId = Annotated[
    str,
    Field(
        coerce_numbers_to_str=True,
        min_length=1,
        max_length=255,
        description="The run that the work belongs to. It counts in the budgets of that run and of its ancestors.",
    ),
    AfterValidator(_no_nul),
]

Timestamp = Annotated[AwareDatetime, PlainSerializer(_rfc3339, return_type=str, when_used="json")]


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorReply(Reply):
    """The body of every error but 422."""

    detail: str
    code: str
    request_id: str | None


class InvalidField(Reply):
    """One invalid field of the request: where (`body`, `query` or `path`, then the names) and what is wrong."""

    type: str
    loc: list[str | int]
    msg: str


class InvalidReply(Reply):
    """422: a list of fields if the request does not parse; a sentence if one of its values cannot be accepted."""

    detail: list[InvalidField] | str
    code: str
    request_id: str | None
    field: str | None = Field(default=None, description="The field that the sentence is about, if it is about one.")


class CodedError(Reply):
    code: str = Field(description="One word per status: `unauthorized`, `insufficient_credits`, `duplicate_event`.")
    message: str
    details: dict[str, Any] | None = None


class CodedErrorReply(ErrorReply):
    """An error on the routes of accounts, credits, usage, events, payments and subscriptions."""

    error: CodedError


class CodedInvalidReply(InvalidReply):
    error: CodedError


class NamedErrorReply(ErrorReply):
    """An error on the routes `/api/billing` and `/api/keys`."""

    error: str = Field(description="The status's reason phrase.", examples=["Unauthorized"])
    message: str


class NamedInvalidReply(InvalidReply):
    error: str
    message: str


_STATUSES = (400, 401, 403, 413, 429, 503)
ERRORS: dict[int | str, dict[str, Any]] = {
    **{code: {"model": ErrorReply} for code in _STATUSES},
    422: {"model": InvalidReply},
}
CODED_ERRORS: dict[int | str, dict[str, Any]] = {
    **{code: {"model": CodedErrorReply} for code in _STATUSES},
    422: {"model": CodedInvalidReply},
}
"""Of routes in Z-Billing's envelope (app.http.envelopes)."""
NAMED_ERRORS: dict[int | str, dict[str, Any]] = {
    **{code: {"model": NamedErrorReply} for code in _STATUSES},
    422: {"model": NamedInvalidReply},
}
"""Of routes in SecondLayer's envelope."""
