"""The blocking and the async client. Both have the same methods with the same arguments."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Self, Unpack

import httpx

from ciris_billing._calls import FailPolicy
from ciris_billing._cost_records import Work
from ciris_billing._methods import awaited, blocking
from ciris_billing._operations import Operations
from ciris_billing._transport import AsyncTransport, BlockingTransport
from ciris_billing._wire import Pages, check_credential
from ciris_billing.cost_records import CostRecordOpening, CostRecordSink, OpeningFields, Recording
from ciris_billing.gate import Gate, Passage
from ciris_billing.holding import AsyncHolding, HeldWork, Holding
from ciris_billing.holds import HoldFields, HoldOpening
from ciris_billing.models import Metadata, Transaction, User, UserFields
from ciris_billing.options import Options


class BillingClient(BlockingTransport):
    """Blocking client of the service. Thread-safe; keeps its connections open until it is closed.

    Pass an `api_key`, or a `token`: a function that returns the user's token, called before each request.
    `http_client` replaces the default HTTP client, for a proxy or a client certificate; the caller closes it.
    `usage`: a UsageReporter, whose queue `record` uses; the caller closes it.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        token: Callable[[], str] | None = None,
        options: Options | None = None,
        http_client: httpx.Client | None = None,
        usage: CostRecordSink | None = None,
    ) -> None:
        options = options or Options()
        check_credential(api_key, token)
        self._api_key = api_key
        self._token = token
        self._operations = options.operations(base_url)
        self._http = http_client or httpx.Client(limits=options.limits())
        self._owns_http = http_client is None
        self._usage = usage

    @property
    def policy(self) -> FailPolicy:
        """The result of checks while the service is unavailable; see Options."""
        return self._operations.policy

    check_credit = blocking(Operations.check_credit)
    charge = blocking(Operations.charge)
    was_charged = blocking(Operations.was_charged)
    get_charge = blocking(Operations.get_charge)
    add_credits = blocking(Operations.add_credits)
    get_or_create_account = blocking(Operations.get_or_create_account)
    get_account = blocking(Operations.get_account)
    transaction_page = blocking(Operations.transaction_page)
    packs = blocking(Operations.packs)
    currencies = blocking(Operations.currencies)
    create_purchase = blocking(Operations.create_purchase)
    purchase_status = blocking(Operations.purchase_status)
    wait_for_purchase = blocking(Operations.wait_for_purchase)
    tool_balance = blocking(Operations.tool_balance)
    tool_balances = blocking(Operations.tool_balances)
    tool_check = blocking(Operations.tool_check)
    tool_charge = blocking(Operations.tool_charge)
    report_llm_usage = blocking(Operations.report_llm_usage)
    report_usage = blocking(Operations.report_usage)
    report_usage_batch = blocking(Operations.report_usage_batch)
    check_usage = blocking(Operations.check_usage)
    quote = blocking(Operations.quote)
    open_cost_record = blocking(Operations.open_cost_record)
    add_cost_record_item = blocking(Operations.add_cost_record_item)
    complete_cost_record = blocking(Operations.complete_cost_record)
    get_cost_record = blocking(Operations.get_cost_record)
    create_hold = blocking(Operations.create_hold)
    capture_hold = blocking(Operations.capture_hold)
    release_hold = blocking(Operations.release_hold)
    extend_hold = blocking(Operations.extend_hold)
    report_hold = blocking(Operations.report_hold)
    get_hold = blocking(Operations.get_hold)
    health = blocking(Operations.health)

    def transactions(
        self, user: User | None = None, *, page_size: int = 100, **user_fields: Unpack[UserFields]
    ) -> Iterator[Transaction]:
        """Iterate over all charges and credits, newest first. Pages are fetched on demand, and each entry is returned
        once, even if new ones are added during the iteration."""
        pages = Pages()
        while pages.more:
            yield from pages.new_in(self.transaction_page(user, limit=page_size, offset=pages.offset, **user_fields))

    @contextmanager
    def gate(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Iterator[Passage]:
        """Check the user's credit, run the block, and charge it. A block that raises is not charged.

        Raises NoCredit, AccountSuspended or AccountClosed before the block, and the errors of `charge` after it."""
        gate = Gate(
            self._operations,
            user,
            interaction_id=interaction_id,
            amount_minor=amount_minor,
            description=description,
            metadata=metadata,
            user_fields=user_fields,
        )
        passage = self._run(gate.enter())
        yield passage
        self._run(gate.leave(passage))

    @contextmanager
    def record(self, user: User | None = None, *, tool: str, **opening: Unpack[OpeningFields]) -> Iterator[Recording]:
        """Open a cost record, run the block, which adds items to it, and queue its outcome: charged once, or never if
        the block raises. Needs a UsageReporter (`usage` of the client).

        The items and the outcome are delivered by the reporter. They survive an outage and the death of this process,
        and a failure to store the outcome is only logged. With the same `request_id`, work that was completed before is
        charged no second time (`replayed`).

        Raises before the block: InsufficientMoney, AccountSuspended, AccountClosed, and RateLimited for a limit that is
        reached; CostRecordSettled for a `request_id` whose work has failed or expired; Unavailable with the policy
        `fail_closed`. With `fail_open` the block runs, and the record is opened later."""
        work = Work(self._operations, CostRecordOpening(tool=tool, user=user, **opening), self._usage)
        recording = self._run(work.enter())
        try:
            yield recording
        except BaseException as failure:
            self._run(work.leave(recording, failure))
            raise
        self._run(work.leave(recording, None))

    @contextmanager
    def hold(self, user: User | None = None, **opening: Unpack[HoldFields]) -> Iterator[Holding]:
        """Reserve credits or money, run the block, which captures the cost of the work, and release the hold if the
        block did not settle it: with the outcome `provider_error` if it raises, `client_abort` if it is interrupted, or
        the word that it passed to `release`. Takes the fields of a HoldOpening.

        The block's own exception reaches the caller. A hold that could not be settled is logged and left to its expiry,
        as is one whose `capture` was not answered.

        Raises before the block: InsufficientCredits, InsufficientMoney, AccountSuspended, AccountClosed, HoldSettled
        for an `idempotency_key` whose hold was released or has expired, and Unavailable, with either policy."""
        work = HeldWork(self._operations, HoldOpening(user=user, **opening))
        self._run(work.enter())
        try:
            yield Holding(work, self)
        except BaseException as failure:
            self._settle(work, failure)
            raise
        self._settle(work, None)

    def close(self) -> None:
        """Close the connections, unless the caller passed an `http_client`."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncBillingClient(AsyncTransport):
    """Async client of the service. Share one between all tasks of an event loop; it keeps its connections open until it
    is closed.

    Takes the same arguments as BillingClient; `token` can also be a coroutine function.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        token: Callable[[], str | Awaitable[str]] | None = None,
        options: Options | None = None,
        http_client: httpx.AsyncClient | None = None,
        usage: CostRecordSink | None = None,
    ) -> None:
        options = options or Options()
        check_credential(api_key, token)
        self._api_key = api_key
        self._token = token
        self._operations = options.operations(base_url)
        self._http = http_client or httpx.AsyncClient(limits=options.limits())
        self._owns_http = http_client is None
        self._usage = usage
        self._settling = set()

    @property
    def policy(self) -> FailPolicy:
        """The result of checks while the service is unavailable; see Options."""
        return self._operations.policy

    check_credit = awaited(Operations.check_credit)
    charge = awaited(Operations.charge)
    was_charged = awaited(Operations.was_charged)
    get_charge = awaited(Operations.get_charge)
    add_credits = awaited(Operations.add_credits)
    get_or_create_account = awaited(Operations.get_or_create_account)
    get_account = awaited(Operations.get_account)
    transaction_page = awaited(Operations.transaction_page)
    packs = awaited(Operations.packs)
    currencies = awaited(Operations.currencies)
    create_purchase = awaited(Operations.create_purchase)
    purchase_status = awaited(Operations.purchase_status)
    wait_for_purchase = awaited(Operations.wait_for_purchase)
    tool_balance = awaited(Operations.tool_balance)
    tool_balances = awaited(Operations.tool_balances)
    tool_check = awaited(Operations.tool_check)
    tool_charge = awaited(Operations.tool_charge)
    report_llm_usage = awaited(Operations.report_llm_usage)
    report_usage = awaited(Operations.report_usage)
    report_usage_batch = awaited(Operations.report_usage_batch)
    check_usage = awaited(Operations.check_usage)
    quote = awaited(Operations.quote)
    open_cost_record = awaited(Operations.open_cost_record)
    add_cost_record_item = awaited(Operations.add_cost_record_item)
    complete_cost_record = awaited(Operations.complete_cost_record)
    get_cost_record = awaited(Operations.get_cost_record)
    create_hold = awaited(Operations.create_hold)
    capture_hold = awaited(Operations.capture_hold)
    release_hold = awaited(Operations.release_hold)
    extend_hold = awaited(Operations.extend_hold)
    report_hold = awaited(Operations.report_hold)
    get_hold = awaited(Operations.get_hold)
    health = awaited(Operations.health)

    async def transactions(
        self, user: User | None = None, *, page_size: int = 100, **user_fields: Unpack[UserFields]
    ) -> AsyncIterator[Transaction]:
        """Iterate over all charges and credits, newest first. Pages are fetched on demand, and each entry is returned
        once, even if new ones are added during the iteration."""
        pages = Pages()
        while pages.more:
            page = await self.transaction_page(user, limit=page_size, offset=pages.offset, **user_fields)
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
        **user_fields: Unpack[UserFields],
    ) -> AsyncIterator[Passage]:
        """Check the user's credit, run the block, and charge it. A block that raises or is cancelled is not charged.

        Raises NoCredit, AccountSuspended or AccountClosed before the block, and the errors of `charge` after it."""
        gate = Gate(
            self._operations,
            user,
            interaction_id=interaction_id,
            amount_minor=amount_minor,
            description=description,
            metadata=metadata,
            user_fields=user_fields,
        )
        passage = await self._run(gate.enter())
        yield passage
        await self._run(gate.leave(passage))

    @asynccontextmanager
    async def record(
        self, user: User | None = None, *, tool: str, **opening: Unpack[OpeningFields]
    ) -> AsyncIterator[Recording]:
        """Open a cost record, run the block, which adds items to it, and queue its outcome: charged once, or never if
        the block raises or is cancelled. Needs a UsageReporter (`usage` of the client).

        The items and the outcome are delivered by the reporter. They survive an outage and the death of this process,
        and a failure to store the outcome is only logged. With the same `request_id`, work that was completed before is
        charged no second time (`replayed`).

        Raises before the block: InsufficientMoney, AccountSuspended, AccountClosed, and RateLimited for a limit that is
        reached; CostRecordSettled for a `request_id` whose work has failed or expired; Unavailable with the policy
        `fail_closed`. With `fail_open` the block runs, and the record is opened later."""
        work = Work(self._operations, CostRecordOpening(tool=tool, user=user, **opening), self._usage)
        recording = await self._run(work.enter())
        try:
            yield recording
        except BaseException as failure:
            await self._run(work.leave(recording, failure))
            raise
        await self._run(work.leave(recording, None))

    @asynccontextmanager
    async def hold(self, user: User | None = None, **opening: Unpack[HoldFields]) -> AsyncIterator[AsyncHolding]:
        """Reserve credits or money, run the block, which captures the cost of the work, and release the hold if the
        block did not settle it: with the outcome `provider_error` if it raises, `client_abort` if it is cancelled, or
        the word that it passed to `release`. Takes the fields of a HoldOpening.

        The block's own exception reaches the caller. A hold that could not be settled is logged and left to its expiry,
        as is one whose `capture` was not answered.

        Raises before the block: InsufficientCredits, InsufficientMoney, AccountSuspended, AccountClosed, HoldSettled
        for an `idempotency_key` whose hold was released or has expired, and Unavailable, with either policy."""
        work = HeldWork(self._operations, HoldOpening(user=user, **opening))
        await self._run(work.enter())
        try:
            yield AsyncHolding(work, self)
        except BaseException as failure:
            await self._settle(work, failure)
            raise
        await self._settle(work, None)

    async def aclose(self) -> None:
        """Wait until holds are settled whose blocks were cancelled, and close the connections, unless the caller passed
        an `http_client`."""
        if self._settling:
            await asyncio.wait(self._settling)
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()
