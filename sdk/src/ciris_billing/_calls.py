"""Base of the API's operations: how calls are run, and how their paths and keys are built."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from ciris_billing._cache import CheckCache
from ciris_billing._exchange import Call, Exchange, Flow
from ciris_billing.errors import InvalidRequest, unsendable

T = TypeVar("T")
FailPolicy = Literal["fail_closed", "fail_open"]
IDENTITY = ("oauth_provider", "external_id", "user_id")


class CallRunner:
    """Runs calls for a group of operations."""

    def __init__(self, exchange: Exchange, cache: CheckCache, policy: FailPolicy) -> None:
        self.exchange = exchange
        self.cache = cache
        self.policy = policy

    def run_and_forget(self, call: Call[T]) -> Flow[T]:
        """Run a call that changes the user's credits, and drop the user's cached check, also if the call fails."""
        assert call.body is not None
        try:
            return (yield from self.exchange.run(call))
        finally:
            self.cache.forget(call.body)


def identity(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that identify the user."""
    return {name: fields[name] for name in IDENTITY if name in fields}


def one_key(idempotency_key: str | None, name: str | None, key_of: Callable[[str], str]) -> str:
    """Return the given idempotency key, or derive it from the name. Raises TypeError unless one of the two is given."""
    if name is not None and idempotency_key is None:
        return key_of(name)
    if name is not None or idempotency_key is None:
        raise TypeError("pass either the id of the interaction or call, or an idempotency_key: one of the two")
    return idempotency_key


def quoted(part: str) -> str:
    """Encode one path segment, including dots, so that `..` cannot change the path. Raises InvalidRequest."""
    if not part:
        raise InvalidRequest("An id in the request is empty: pass the id of the resource")
    try:
        return quote(part, safe="").replace(".", "%2E")
    except UnicodeEncodeError as error:
        raise unsendable() from error
