"""Values that the local Stripe's modules share: objects as JSON, errors in Stripe's format, and the time."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

Object = dict[str, Any]
SIMULATED_S: ContextVar[int | None] = ContextVar("simulated_s", default=None)
"""The simulated time of this request in seconds, for sample traffic. Its events are logged, not delivered."""
CLOCK_S: ContextVar[int | None] = ContextVar("clock_s", default=None)
"""The time of the test clock whose objects are being changed. Its events are delivered."""


def real_now_s() -> int:
    simulated_s = SIMULATED_S.get()
    return int(time.time()) if simulated_s is None else simulated_s


def now_s() -> int:
    clock_s = CLOCK_S.get()
    return real_now_s() if clock_s is None else clock_s


@contextlib.contextmanager
def at(clock_s: int | None) -> Iterator[None]:
    """Let objects change at the time of a test clock; None: in real time."""
    token = CLOCK_S.set(clock_s)
    try:
        yield
    finally:
        CLOCK_S.reset(token)


class StripeError(Exception):
    """An error answer in Stripe's format."""

    def __init__(self, status: int, kind: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"type": kind, "message": message, **more}


def invalid(message: str, param: str, code: str = "parameter_invalid") -> StripeError:
    return StripeError(400, "invalid_request_error", message, param=param, code=code)
