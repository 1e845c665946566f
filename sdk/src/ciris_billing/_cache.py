"""Checks that were answered a moment ago, for agents that check one user many times a second."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciris_billing.models import CreditStatus

MAX_ENTRIES = 10_000


@dataclass(slots=True, eq=False)
class Question:
    """A check, and once it is answered what it was answered."""

    asked: Mapping[str, Any]
    status: CreditStatus | None = None
    until_s: float = 0.0


class CheckCache:
    """Remembers that a user has credit, for `ttl_s`. A refusal is never remembered, so that a purchase counts at once;
    whatever moves the user's credits through the same client forgets them."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._entries: OrderedDict[tuple[str, str], Question] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, asked: Mapping[str, Any], now_s: float) -> CreditStatus | None:
        """What the same question was answered; a question with other profile fields has to reach the service."""
        who = _identity(asked)
        if who is None or self._ttl_s <= 0:
            return None
        with self._lock:
            entry = self._entries.get(who)
            return entry.status if entry is not None and entry.until_s > now_s and entry.asked == asked else None

    def begin(self, asked: Mapping[str, Any]) -> Question:
        """Before a check is sent, so that what moves credits while it is under way makes its answer stale."""
        question, who = Question(asked), _identity(asked)
        if who is not None and self._ttl_s > 0:
            with self._lock:
                self._entries[who] = question
                self._entries.move_to_end(who)
                if len(self._entries) > MAX_ENTRIES:
                    self._entries.popitem(last=False)
        return question

    def put(self, question: Question, status: CreditStatus, now_s: float) -> None:
        """Remember the answer, unless the question has been forgotten meanwhile."""
        who = _identity(question.asked)
        if who is None or not status.has_credit:
            return
        with self._lock:
            if self._entries.get(who) is question:
                question.status, question.until_s = status, now_s + self._ttl_s

    def forget(self, about: Mapping[str, Any]) -> None:
        who = _identity(about)
        if who is not None:
            with self._lock:
                self._entries.pop(who, None)


def _identity(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """None if the token says who it is: it may say somebody else next time."""
    provider, external_id = fields.get("oauth_provider"), fields.get("external_id")
    return None if provider is None or external_id is None else (provider, external_id)
