"""Cache of recent credit checks, for agents that check one user many times per second."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciris_billing.models import CreditStatus

MAX_ENTRIES = 10_000
Identity = tuple[str, str]
"""The provider and the external id, or "" and the `user_id`."""


@dataclass(slots=True, eq=False)
class Entry:
    """A check, with its result once there is one."""

    request: Mapping[str, Any]
    status: CreditStatus | None = None
    until_s: float = 0.0


class CheckCache:
    """Caches positive checks for `ttl_s` seconds. Refusals are not cached, so that a purchase takes effect immediately.
    Calls of the same client that change a user's credits drop the user's entry. A user whom calls name by the identity
    and by `user_id` has an entry for each. Thread-safe."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._entries: OrderedDict[Identity, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, request: Mapping[str, Any], now_s: float) -> CreditStatus | None:
        """Return the cached result of an equal request. Other profile fields miss, because they have to reach the
        service."""
        identity = _identity(request)
        if identity is None or self._ttl_s <= 0:
            return None
        with self._lock:
            entry = self._entries.get(identity)
            return entry.status if entry is not None and entry.until_s > now_s and entry.request == request else None

    def begin(self, request: Mapping[str, Any]) -> Entry:
        """Register a check before it is sent, so that a change of credits during the check makes its result stale."""
        entry, identity = Entry(request), _identity(request)
        if identity is not None and self._ttl_s > 0:
            with self._lock:
                self._entries[identity] = entry
                self._entries.move_to_end(identity)
                if len(self._entries) > MAX_ENTRIES:
                    self._entries.popitem(last=False)
        return entry

    def put(self, entry: Entry, status: CreditStatus, now_s: float) -> None:
        """Cache the result, unless the entry was dropped since `begin`."""
        identity = _identity(entry.request)
        if identity is None or not status.has_credit:
            return
        with self._lock:
            if self._entries.get(identity) is entry:
                entry.status, entry.until_s = status, now_s + self._ttl_s

    def forget(self, about: Mapping[str, Any]) -> None:
        identity = _identity(about)
        if identity is not None:
            with self._lock:
                self._entries.pop(identity, None)


def _identity(fields: Mapping[str, Any]) -> Identity | None:
    """Return the name of the user; None if the token determines the user, which can differ next time."""
    user_id = fields.get("user_id")
    if user_id is not None:
        return ("", user_id)
    provider, external_id = fields.get("oauth_provider"), fields.get("external_id")
    return None if provider is None or external_id is None else (provider, external_id)
