"""Tally of a reconciliation, which continues when one of its steps fails."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from app.payments.errors import PaymentProviderRefused, PaymentProviderUnavailable

GIVE_UP_AFTER = 3
"""So many calls in a row without an answer from Stripe end the reconciliation."""
log = structlog.get_logger()


@dataclass(slots=True)
class Attempts:
    """The counts of a reconciliation. A failed step is logged and repeated by the next run; the others continue."""

    done: dict[str, int] = field(default_factory=lambda: {"events": 0, "payments": 0, "failed": 0})
    unanswered: int = 0
    on_attempt: Callable[[int], None] = lambda attempted: None
    """Called after each attempt with the number of attempts, failed ones included."""
    attempted: int = 0

    async def attempt(self, kind: str, work: Awaitable[int], **about: object) -> bool:
        """Await a step and count it. Return whether it succeeded.

        Raises PaymentProviderUnavailable after GIVE_UP_AFTER calls in a row without an answer.
        """
        self.attempted += 1
        try:
            self.done[kind] += await work
        except Exception as error:
            self.done["failed"] += 1
            log.exception("reconciliation_failed", kind=kind, **about)
            away = isinstance(error, PaymentProviderUnavailable) and not isinstance(error, PaymentProviderRefused)
            self.unanswered = self.unanswered + 1 if away else 0
            if self.unanswered >= GIVE_UP_AFTER:
                raise
            return False
        finally:
            self.on_attempt(self.attempted)
        self.unanswered = 0
        return True
