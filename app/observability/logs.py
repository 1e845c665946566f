"""Structured logs: JSON lines on stderr, from structlog and the standard library in one format."""

import logging
import logging.config
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from app.errors import describe

QUIET = (
    "uvicorn.access",  # duplicates our access log, and includes ids
    "httpx",
    "httpcore",  # logs whole headers
    "stripe",
    "procrastinate",
    "sqlalchemy",
    "urllib3",
)
Reporter = Callable[[MutableMapping[str, Any], BaseException | None], None]


def format_exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by its frames and `describe`'s line: its message may quote a caller's values."""
    error = _exception_of(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = "\n".join(_lines(error, set()))
    return event


def _exception_of(given: object) -> BaseException | None:
    if given is True:
        return sys.exc_info()[1]
    if isinstance(given, tuple):
        given = given[1]
    return given if isinstance(given, BaseException) else None


def _lines(error: BaseException, seen: set[int]) -> list[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*_lines(before, seen), "then:"] if before is not None and id(before) not in seen else []
    lines += "".join(traceback.format_tb(error.__traceback__)).rstrip("\n").splitlines()
    lines.append(describe(error))
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            lines += ["of which:", *_lines(inner, seen)]
    return lines


def configure_logging(*, level: str, json: bool, report: Reporter | None = None) -> None:
    """Send structlog and the standard library's loggers to stderr in one format.

    `report` also gets every event of level "error" or above, with its exception.
    """

    def reported(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if report is not None and event["level"] in ("error", "critical", "exception"):
            report(event, _exception_of(event.get("exc_info")))
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    tail: list[Any] = [reported, format_exception, renderer]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder()],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"shared": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "shared"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {name: {"level": "WARNING"} for name in QUIET},
        }
    )
