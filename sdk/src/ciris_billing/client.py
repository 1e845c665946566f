"""The clients. Both have the same methods with the same arguments; one blocks, one is awaited."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

import httpx

from ciris_billing._cache import CheckCache
from ciris_billing._exchange import Answer, Exchange, Flow, Send, Sent
from ciris_billing._operations import FailPolicy, Operations
from ciris_billing._retry import Hosts, Retry
from ciris_billing.gate import Gate, Passage
from ciris_billing.models import Metadata, Transaction, TransactionPage, User, UserFields

P = ParamSpec("P")
T = TypeVar("T")
Propagate = Callable[[dict[str, str]], None]
MAX_ANSWER_BYTES = 16 * 1024 * 1024

try:
    VERSION = version("ciris-billing-client")
except PackageNotFoundError:  # run from its source folder
    VERSION = "0"
try:
    from opentelemetry.propagate import inject as trace_context  # the caller's own, if there is one
except ImportError:
    trace_context = None  # type: ignore[assignment]  # optional

_sending = ContextVar("ciris_billing_sending", default=False)


def _not_ours(record: logging.LogRecord) -> bool:
    """httpx logs the address of every request, and ours name people; we log our own calls without."""
    return not _sending.get()


logging.getLogger("httpx").addFilter(_not_ours)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What clients can be told beside the address and the credential.

    `fallback_urls`: further addresses of the same service, for when the first does not answer. All must share one
    database, or a charge that is repeated at another address is taken twice.
    `timeout_s` bounds one try, `deadline_s` a call with all its retries.
    `check_cache_s`: how long a check that said yes may be given again. 0 asks every time.
    `policy`: whether a service that cannot be asked means no (`fail_closed`) or yes (`fail_open`), to checks and gates.
    `propagate` adds trace headers to each request; OpenTelemetry's does, where that is installed.
    """

    fallback_urls: Sequence[str] = ()
    timeout_s: float = 5.0
    deadline_s: float = 15.0
    retry: Retry = field(default_factory=Retry)
    check_cache_s: float = 0.0
    policy: FailPolicy = "fail_closed"
    max_connections: int = 100
    propagate: Propagate | None = trace_context
    clock: Callable[[], float] = time.monotonic

    def operations(self, base_url: str) -> Operations:
        exchange = Exchange(
            hosts=Hosts([base_url, *self.fallback_urls]),
            timeout_s=self.timeout_s,
            deadline_s=self.deadline_s,
            retry=self.retry,
            propagate=self.propagate,
            user_agent=f"ciris-billing-client/{VERSION}",
            clock=self.clock,
        )
        return Operations(exchange, CheckCache(self.check_cache_s), self.policy)

    def limits(self) -> httpx.Limits:
        return httpx.Limits(max_connections=self.max_connections, max_keepalive_connections=self.max_connections)


def _blocking(
    operation: Callable[Concatenate[Operations, P], Flow[T]],
) -> Callable[Concatenate["BillingClient", P], T]:
    @functools.wraps(operation)
    def method(self: "BillingClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(operation(self._operations, *args, **kwargs))

    return method


def _awaited(
    operation: Callable[Concatenate[Operations, P], Flow[T]],
) -> Callable[Concatenate["AsyncBillingClient", P], Coroutine[Any, Any, T]]:
    @functools.wraps(operation)
    async def method(self: "AsyncBillingClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(operation(self._operations, *args, **kwargs))

    return method


class BillingClient:
    """The service, for code that blocks. Safe to use from several threads; keeps its connections until closed.

    Give an `api_key`, or a `token`: a function that returns the user's token, asked before each request.
    `http_client` replaces the client's own, for a proxy or a client certificate; who gave it closes it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        token: Callable[[], str] | None = None,
        options: Options | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        options = options or Options()
        _one_credential(api_key, token)
        self._api_key = api_key
        self._token = token
        self._operations = options.operations(base_url)
        self._http = http_client or httpx.Client(limits=options.limits())
        self._owns_http = http_client is None

    check_credit = _blocking(Operations.check_credit)
    charge = _blocking(Operations.charge)
    get_charge = _blocking(Operations.get_charge)
    add_credits = _blocking(Operations.add_credits)
    get_or_create_account = _blocking(Operations.get_or_create_account)
    get_account = _blocking(Operations.get_account)
    transaction_page = _blocking(Operations.transaction_page)
    create_purchase = _blocking(Operations.create_purchase)
    purchase_status = _blocking(Operations.purchase_status)
    wait_for_purchase = _blocking(Operations.wait_for_purchase)
    tool_balance = _blocking(Operations.tool_balance)
    tool_balances = _blocking(Operations.tool_balances)
    tool_check = _blocking(Operations.tool_check)
    tool_charge = _blocking(Operations.tool_charge)
    report_llm_usage = _blocking(Operations.report_llm_usage)
    health = _blocking(Operations.health)

    def transactions(
        self, user: User | None = None, *, page_size: int = 100, **who: Unpack[UserFields]
    ) -> Iterator[Transaction]:
        """All charges and credits, newest first, fetched as they are needed; each once, whatever happens meanwhile."""
        pages = Pages()
        while pages.more:
            yield from pages.new_in(self.transaction_page(user, limit=page_size, offset=pages.offset, **who))

    @contextmanager
    def gate(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
        **who: Unpack[UserFields],
    ) -> Iterator[Passage]:
        """Check, let the block run, charge it; an exception in the block is not charged.

        Raises NoCredit, AccountSuspended or AccountClosed instead of letting the block run; what a charge raises
        after it."""
        gate = Gate(
            self._operations,
            user,
            interaction_id=interaction_id,
            amount_minor=amount_minor,
            description=description,
            metadata=metadata,
            who=who,
        )
        passage = self._run(gate.enter())
        yield passage
        self._run(gate.leave(passage))

    def close(self) -> None:
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        outcome: Sent | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Send):
                outcome = self._send(step)
            else:
                time.sleep(step.seconds)
                outcome = None

    def _send(self, step: Send) -> Sent:
        clock = self._operations.exchange.clock
        give_up_at = clock() + step.timeout_s
        headers = {**step.headers, **_credential(self._api_key, self._token() if self._token else None)}
        ours = _sending.set(True)
        try:
            request = self._http.build_request(
                step.method, step.url, json=step.body, params=step.query, headers=headers, timeout=step.timeout_s
            )
            response = self._http.send(request, stream=True, follow_redirects=False)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    _check_progress(content, chunk, late=clock() >= give_up_at)
            finally:
                response.close()
        except httpx.TransportError as error:
            return error
        except httpx.DecodingError as error:
            return httpx.RemoteProtocolError(str(error))
        finally:
            _sending.reset(ours)
        return Answer(response.status_code, response.headers, bytes(content))


class AsyncBillingClient:
    """The service, for asyncio. One for all tasks of an event loop; keeps its connections until closed.

    As BillingClient, but `token` may be a coroutine function.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        token: Callable[[], str | Awaitable[str]] | None = None,
        options: Options | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        options = options or Options()
        _one_credential(api_key, token)
        self._api_key = api_key
        self._token = token
        self._operations = options.operations(base_url)
        self._http = http_client or httpx.AsyncClient(limits=options.limits())
        self._owns_http = http_client is None

    check_credit = _awaited(Operations.check_credit)
    charge = _awaited(Operations.charge)
    get_charge = _awaited(Operations.get_charge)
    add_credits = _awaited(Operations.add_credits)
    get_or_create_account = _awaited(Operations.get_or_create_account)
    get_account = _awaited(Operations.get_account)
    transaction_page = _awaited(Operations.transaction_page)
    create_purchase = _awaited(Operations.create_purchase)
    purchase_status = _awaited(Operations.purchase_status)
    wait_for_purchase = _awaited(Operations.wait_for_purchase)
    tool_balance = _awaited(Operations.tool_balance)
    tool_balances = _awaited(Operations.tool_balances)
    tool_check = _awaited(Operations.tool_check)
    tool_charge = _awaited(Operations.tool_charge)
    report_llm_usage = _awaited(Operations.report_llm_usage)
    health = _awaited(Operations.health)

    async def transactions(
        self, user: User | None = None, *, page_size: int = 100, **who: Unpack[UserFields]
    ) -> AsyncIterator[Transaction]:
        """All charges and credits, newest first, fetched as they are needed; each once, whatever happens meanwhile."""
        pages = Pages()
        while pages.more:
            page = await self.transaction_page(user, limit=page_size, offset=pages.offset, **who)
            for transaction in pages.new_in(page):
                yield transaction

    @asynccontextmanager
    async def gate(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
        **who: Unpack[UserFields],
    ) -> AsyncIterator[Passage]:
        """Check, let the block run, charge it; an exception in the block, or its cancellation, is not charged.

        Raises NoCredit, AccountSuspended or AccountClosed instead of letting the block run; what a charge raises
        after it."""
        gate = Gate(
            self._operations,
            user,
            interaction_id=interaction_id,
            amount_minor=amount_minor,
            description=description,
            metadata=metadata,
            who=who,
        )
        passage = await self._run(gate.enter())
        yield passage
        await self._run(gate.leave(passage))

    async def aclose(self) -> None:
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Sent | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Send):
                outcome = await self._send(step)
            else:
                await asyncio.sleep(step.seconds)
                outcome = None

    async def _send(self, step: Send) -> Sent:
        token = self._token() if self._token else None
        if token is not None and not isinstance(token, str):
            token = await token
        headers = {**step.headers, **_credential(self._api_key, token)}
        ours = _sending.set(True)
        try:
            async with asyncio.timeout(step.timeout_s):
                request = self._http.build_request(
                    step.method, step.url, json=step.body, params=step.query, headers=headers, timeout=step.timeout_s
                )
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    content = bytearray()
                    async for chunk in response.aiter_bytes():
                        _check_progress(content, chunk, late=False)
                finally:
                    await response.aclose()
        except TimeoutError:
            return httpx.ReadTimeout("no complete answer in time")
        except httpx.TransportError as error:
            return error
        except httpx.DecodingError as error:
            return httpx.RemoteProtocolError(str(error))
        finally:
            _sending.reset(ours)
        return Answer(response.status_code, response.headers, bytes(content))


class Pages:
    """Where a walk through pages stands. What happens meanwhile pushes older entries to later pages: they are met
    again, and skipped."""

    def __init__(self) -> None:
        self._seen: set[UUID] = set()
        self.offset = 0
        self.more = True

    def new_in(self, page: TransactionPage) -> list[Transaction]:
        self.offset += len(page.transactions)
        self.more = page.has_more and bool(page.transactions)
        fresh = [entry for entry in page.transactions if entry.transaction_id not in self._seen]
        self._seen.update(entry.transaction_id for entry in fresh)
        return fresh


def _one_credential(api_key: str | None, token: object) -> None:
    if (api_key is None) == (token is None):
        raise TypeError("give an api_key or a token function: one of the two")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key):
        raise ValueError("the API key has characters that no key has; was a line break read with it?")


def _credential(api_key: str | None, token: str | None) -> dict[str, str]:
    return {"X-API-Key": api_key} if api_key is not None else {"Authorization": f"Bearer {token}"}


def _check_progress(content: bytearray, chunk: bytes, *, late: bool) -> None:
    """Keep what arrives. Raises httpx's errors for what goes on for too long, or is too much to be an answer."""
    if late:
        raise httpx.ReadTimeout("no complete answer in time")
    content += chunk
    if len(content) > MAX_ANSWER_BYTES:
        raise httpx.RemoteProtocolError("the answer is too long")
