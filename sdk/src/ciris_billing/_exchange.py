"""Calls with retries, without I/O (sans-I/O).

A flow is a generator: it yields steps (send a request, pause) and receives their outcomes. The blocking and the async
client only perform these steps, so that all decisions are made here once.
"""

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ValidationError

from ciris_billing._answers import error_code
from ciris_billing._failures import error_for
from ciris_billing._retry import Chance, Hosts, Retry, retry_after_s
from ciris_billing.errors import BillingError, InvalidReply, RateLimited, ServiceUnavailable, unsendable

log = logging.getLogger("ciris_billing")

T = TypeVar("T")
Clock = Callable[[], float]
HOST_FAILURES = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and give up after `timeout_s`. The outcome is an Answer or a transport error."""

    method: str
    url: str
    body: bytes | None
    headers: dict[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: httpx.Headers
    content: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for `seconds`. The outcome is None."""

    seconds: float


Sent = Answer | httpx.TransportError
Flow = Generator[Send | Pause, Sent | None, T]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request of the API and the parser of its answer. Logs use `operation`, because paths contain identities."""

    operation: str
    method: str
    path: str
    parse: Callable[[int, dict[str, Any]], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] | None = None
    repeatable: bool = True
    """The call is idempotent: a retry after a lost answer is safe."""
    accepted: frozenset[int] = frozenset({200, 201})
    replays: frozenset[str] = frozenset()
    """Codes of a 409 that repeats what was recorded before, and counts as success."""
    noted: Mapping[str, str] = field(default_factory=dict)
    """Headers of the answer that become fields of it, by name."""
    until_deadline: bool = False
    """If the policy allows a retry at all, retry until the deadline, beyond its number of attempts."""


M = TypeVar("M", bound=BaseModel)


def as_model(model: type[M]) -> Callable[[int, dict[str, Any]], M]:
    return lambda status, fields: model.model_validate(fields)


def or_replayed(model: type[M]) -> Callable[[int, dict[str, Any]], M]:
    """Parse a result or its replay: 409 repeats what was recorded before and counts as success."""
    return lambda status, fields: model.model_validate({**fields, "replayed": status == 409})


@dataclass(frozen=True)
class Exchange:
    """Runs calls with time limits and retries. Shared by all calls of a client. Thread-safe."""

    hosts: Hosts
    timeout_s: float
    deadline_s: float
    retry: Retry
    propagate: Callable[[dict[str, str]], None] | None
    user_agent: str
    clock: Clock = time.monotonic
    chance: Chance = field(default=random.random)

    def run(self, call: Call[T]) -> Flow[T]:
        """Return the call's result, with retries as `retry` allows.

        Raises the BillingError of the last attempt, and InvalidRequest for values that cannot be sent."""
        target, body = _encoded(call)
        request_id = uuid.uuid4().hex
        give_up_at = self.clock() + self.deadline_s
        attempt = 0
        while True:
            attempt += 1
            started = self.clock()
            host = self.hosts.choose(started)
            timeout_s = min(self.timeout_s, max(0.001, give_up_at - started))
            headers = self.headers(request_id)
            if body is not None:
                headers["Content-Type"] = "application/json"
            outcome = yield Send(call.method, host + target, body, headers, timeout_s)
            assert outcome is not None
            result = _result_of(call, outcome, request_id)
            _log_attempt(call, result, attempt, self.clock() - started, request_id)
            if not isinstance(result, BillingError):
                return result
            if _is_host_failure(outcome):
                self.hosts.failed(host, self.clock())
            wait = self._wait_s(call, outcome, result, attempt)
            if wait is None or self._is_last(call, attempt) or self.clock() + wait >= give_up_at:
                _give_up(result, outcome)
            yield Pause(wait)

    def _is_last(self, call: Call[Any], attempt: int) -> bool:
        persists = call.until_deadline and self.retry.attempts > 1
        return attempt >= self.retry.attempts and not persists

    def headers(self, request_id: str, accept: str = "application/json") -> dict[str, str]:
        headers = {"X-Request-ID": request_id, "User-Agent": self.user_agent, "Accept": accept}
        if self.propagate is not None:
            self.propagate(headers)
        return headers

    def _wait_s(self, call: Call[Any], outcome: Sent, error: BillingError, failures: int) -> float | None:
        """Return the wait before the next attempt in seconds; None if the call must not be retried."""
        if not _is_retryable(call, outcome):
            return None
        if _is_host_failure(outcome) and self.hosts.has_healthy_host(self.clock()):
            return 0.0
        requested = error.retry_after if isinstance(error, RateLimited | ServiceUnavailable) else None
        return self.retry.wait_s(failures, requested, self.chance)


def _encoded(call: Call[Any]) -> tuple[str, bytes | None]:
    """Return the path with the query, and the encoded body. Raises InvalidRequest for values that cannot be sent."""
    try:
        target = f"{call.path}?{urlencode(call.query)}" if call.query else call.path
        if call.body is None:
            return target, None
        return target, json.dumps(call.body, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise unsendable() from error


def _is_retryable(call: Call[Any], outcome: Sent) -> bool:
    if isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True  # the request did not reach the service
    if isinstance(outcome, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return False  # the request cannot be sent
    if isinstance(outcome, Answer) and outcome.status == 429:
        return True  # rejected before any effect
    return call.repeatable and _is_host_failure(outcome)


def _is_host_failure(outcome: Sent) -> bool:
    return isinstance(outcome, httpx.TransportError) or outcome.status in HOST_FAILURES


def _result_of(call: Call[T], outcome: Sent, request_id: str) -> T | BillingError:
    if isinstance(outcome, httpx.TransportError):
        return unanswered(outcome, request_id)
    request_id = outcome.headers.get("X-Request-ID", request_id)
    status, fields = outcome.status, fields_of(outcome.content)
    replayed = status == 409 and error_code(fields) in call.replays
    if status not in call.accepted and not replayed:
        return error_for(status, fields, retry_after=retry_after_s(outcome.headers), request_id=request_id)
    fields |= {name: outcome.headers[header] for header, name in call.noted.items() if header in outcome.headers}
    try:
        return call.parse(status, fields)
    except ValidationError as error:  # the error's text would contain the answer
        invalid = sorted({".".join(str(part) for part in e["loc"]) for e in error.errors(include_input=False)})[:5]
        message = (
            f"The answer does not match the API: check the base URL and the versions (fields: {', '.join(invalid)})"
        )
        return InvalidReply(message, status=status, request_id=request_id)


def unanswered(error: httpx.TransportError, request_id: str) -> ServiceUnavailable:
    """Return the error for a request without an answer."""
    slow = isinstance(error, httpx.TimeoutException)
    problem = "did not answer in time" if slow else "cannot be reached"
    code = "timeout" if slow else "network_error"
    return ServiceUnavailable(f"The billing service {problem}: try again later", code=code, request_id=request_id)


def fields_of(content: bytes) -> dict[str, Any]:
    """Return the members of an answer's body; none if it is no JSON object."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _give_up(error: BillingError, outcome: Sent) -> NoReturn:
    if isinstance(outcome, httpx.TransportError):
        raise error from outcome
    raise error


def _log_attempt(call: Call[Any], result: object, attempt: int, took_s: float, request_id: str) -> None:
    """Log one line per attempt, without path, body and answer, which contain personal data."""
    failed = isinstance(result, BillingError)
    fields = {
        "operation": call.operation,
        "attempt": attempt,
        "duration_ms": round(took_s * 1000, 1),
        "request_id": result.request_id if isinstance(result, BillingError) else request_id,
        "status": getattr(result, "status", None) if failed else None,
        "code": getattr(result, "code", None) if failed else None,
    }
    log.log(
        logging.WARNING if failed else logging.DEBUG,
        "billing call %s: %s",
        call.operation,
        fields["code"] if failed else "ok",
        extra={f"billing_{name}": value for name, value in fields.items() if value is not None},
    )
