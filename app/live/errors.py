"""Errors of event streams and their tickets."""

from app.errors import AppError, Busy

RETRY_AFTER_S = 5


class InvalidTicket(AppError):
    """The ticket is unknown, used, expired, or another page's. The answer does not say which."""

    status, code = 401, "invalid_ticket"

    def __init__(self) -> None:
        super().__init__("The ticket is invalid: it works once, for 60 seconds", headers={"WWW-Authenticate": "Bearer"})


class TooManyStreams(AppError):
    """The caller has as many open event streams in this process as it may have."""

    status, code = 429, "too_many_streams"

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"Too many open event streams of this {subject}: close one",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


class StreamsFull(Busy):
    """This process has as many open event streams as it may have, or is about to end."""

    def __init__(self, *, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__("No room for another event stream, retry shortly", retry_after_s=retry_after_s)
