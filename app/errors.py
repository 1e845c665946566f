"""Errors: each has an HTTP status and a code, and becomes an answer only here.

To add a code, derive a class from `AppError` in the errors.py of the package that raises it, and describe the code in
docs/errors.md; a test compares them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import asyncpg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

log = structlog.get_logger()
ErrorHandler: TypeAlias = Callable[[Request, Exception], Awaitable[JSONResponse]]

BUSY_SQLSTATES = {
    "25006",  # read-only transaction: a standby, or a database that its operator or a full disk made read-only
    "25P03",  # idle in transaction session timeout
    "25P04",  # transaction timeout
    "40001",  # serialization failure
    "40P01",  # deadlock detected
    "55000",  # object not in prerequisite state: the database takes no connections
    "55006",  # object in use: the database is being renamed, dropped or copied
    "55P03",  # lock not available: lock_timeout
}
UNAVAILABLE_CLASSES = (
    "08",  # connection exception
    "28",  # invalid authorization: the operator's mistake, not the caller's
    "3D",  # no such database
    "53",  # insufficient resources: disk, memory, connections
    "57",  # operator intervention: shutdown, start-up, statement_timeout, idle_session_timeout
    "58",  # system error: the server's operating system or disk failed
)
"""Not class XX (internal error, corrupted data), which answers 500: a retry cannot help, and an operator must act."""
PLAIN_CLASSES = ("08", "23", "25", "28", "3D", "40", "42", "53", "55", "57")
"""SQLSTATE classes whose messages have a first line that names tables, columns and roles, but quotes no value."""
PLAIN_ERRORS = (ArithmeticError, AssertionError, AttributeError, ImportError, NameError, RuntimeError, TypeError)
"""Errors whose text comes from the interpreter or from our assertions: it quotes code, not data."""
STATUS_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    431: "head_too_large",
    503: "busy",
}


PAYMENT_REQUIRED = 402
UNREADABLE_BODY = "There was an error parsing the body"
"""FastAPI's message for a body that is not text."""


class AppError(Exception):
    """An outcome that ends the request with `status`, `code` and a message for the caller.

    `figures` are further members of the body, so that clients need not parse the message.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, detail: str, *, headers: Mapping[str, str] | None = None, figures: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.figures = dict(figures or {})

    @property
    def kept_figures(self) -> Mapping[str, object] | None:
        """The figures that the log of refused requests keeps of this error. None: it does not keep the error."""
        return self.figures if self.status == PAYMENT_REQUIRED else None


class Busy(AppError):
    """A dependency did not answer in time. Nothing is known to be lost: retry with the same idempotency key."""

    status, code = 503, "busy"

    def __init__(self, detail: str = "Service busy, retry shortly", *, retry_after_s: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class DatabaseDown(Busy):
    """PostgreSQL has not answered any request for a while, so this one was not tried."""


class DatabaseReadOnly(Busy):
    """PostgreSQL answers, but rejects every write, so this one was not tried. Reads still work."""


class InvalidRequest(AppError):
    """The request parses, but one value cannot be accepted. `field` names it, and the message begins with that name."""

    status, code = 422, "invalid_request"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail, figures={} if field is None else {"field": field})


NO_ANSWER = (
    DatabaseDown,
    DatabaseReadOnly,
    PoolTimeout,
    InterfaceError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg raises it for a connection that was cut while idle
    OSError,  # drivers do not wrap it; includes ConnectionError and TimeoutError
)


def is_closed_transport(error: BaseException) -> bool:
    """Return whether a write failed because its connection was closed before the driver noticed. Nothing was sent.

    uvloop has no class for this error: it raises a plain RuntimeError.
    """
    return type(error) is RuntimeError and "handler is closed" in str(error)


def is_database_unavailable(error: BaseException) -> bool:
    """Return whether `error` means that PostgreSQL is unavailable or overloaded, not that our statement is wrong."""
    if isinstance(error, NO_ANSWER) or is_closed_transport(error):
        return True
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    if isinstance(error, DBAPIError) and (error.connection_invalidated or state is None):
        return True
    return isinstance(state, str) and (state in BUSY_SQLSTATES or state.startswith(UNAVAILABLE_CLASSES))


def describe(error: BaseException) -> str:
    """Return the kind of an error in one line that is safe to log and to send elsewhere.

    The message is included only if it is known to quote no value: a caller's value may be an e-mail address.
    """
    original = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        original = error.orig.__cause__ or error.orig  # the driver's error, which SQLAlchemy may wrap twice
    state = getattr(original, "sqlstate", None)
    name = type(original).__name__
    if isinstance(state, str):
        plain = state.startswith(PLAIN_CLASSES)
        text = str(getattr(original, "message", None) or original).partition("\n")[0] if plain else ""
        return f"{name}: [{state}] {text}".rstrip()
    if isinstance(original, OSError):
        return f"{name}: {original.strerror}" if original.strerror else name
    if isinstance(original, PLAIN_ERRORS):
        return f"{name}: {original}".partition("\n")[0]
    return name


def error_body(detail: object, code: str) -> dict[str, Any]:
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {"detail": detail, "code": code, "request_id": request_id}


def error_response(error: AppError) -> JSONResponse:
    return JSONResponse({**error_body(error.detail, error.code), **error.figures}, error.status, error.headers)


def response_for(error: Exception) -> JSONResponse:
    """Return the answer to any exception: an AppError's own, 503 if the database is unavailable, else 500."""
    if isinstance(error, AppError):
        return error_response(error)
    if is_database_unavailable(error):
        log.warning("database_unavailable", error=type(error).__name__, reason=describe(error))
        return error_response(Busy())
    log.error("unhandled_error", exc_info=error)
    return error_response(AppError("Internal server error"))


def failure_of(error: Exception) -> AppError:
    """Return an exception as the error of one item of a request. Logs one that is a bug."""
    if isinstance(error, AppError):
        return error
    if is_database_unavailable(error):
        return Busy()
    log.error("item_failed", exc_info=error)
    return AppError("Internal server error")


async def _app_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, AppError):
        _note_refusal(request, error)
    return response_for(error)


def _note_refusal(request: Request, error: AppError) -> None:
    """Pass an error that is kept to the application's RefusalLog, if it has one."""
    refusal_log = getattr(request.app.state, "refusal_log", None)
    if refusal_log is not None and error.kept_figures is not None:
        refusal_log.note(error, getattr(request.scope.get("route"), "path", ""))


def fields_of(errors: Sequence[Mapping[str, Any]], *place: str) -> list[dict[str, Any]]:
    """Return the invalid fields of a validation, without the rejected values. `place` precedes each location."""
    return [{"type": e["type"], "loc": [*place, *e["loc"]], "msg": e["msg"]} for e in errors]


def _how_to_send_a_body(request: Request) -> str | None:
    """Return what to change about the headers, if they do not fit a JSON body."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        return "Send the body uncompressed, without the header Content-Encoding"
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return "Send the body as JSON, with the header Content-Type: application/json"
    return None


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    # Leave out the rejected input: it may be a megabyte, a secret, or not even valid Unicode.
    assert isinstance(error, RequestValidationError)
    details = fields_of(error.errors())
    how = _how_to_send_a_body(request)
    for detail in details if how is not None else ():
        if tuple(detail["loc"]) == ("body",) or detail["type"] == "json_invalid":  # about the body as a whole
            detail["msg"] = how
    return JSONResponse(error_body(details, "validation_error"), 422)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, detail = STATUS_CODES.get(error.status_code, "http_error"), error.detail
    if detail == UNREADABLE_BODY:
        detail = _how_to_send_a_body(request) or "Send the body as JSON in UTF-8, uncompressed"
    return JSONResponse(error_body(detail, code), error.status_code, error.headers)


ERROR_HANDLERS: dict[type[Exception], ErrorHandler] = {
    AppError: _app_error,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
}
"""The errors that end a request as expected, and what answers them."""


async def handled(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to an error of ERROR_HANDLERS, by the handler of its nearest class, as Starlette does."""
    kind = next(kind for kind in type(error).__mro__ if kind in ERROR_HANDLERS)
    return await ERROR_HANDLERS[kind](request, error)


def install_error_handlers(app: FastAPI) -> None:
    for kind, handler in ERROR_HANDLERS.items():
        app.add_exception_handler(kind, handler)
