"""The async client: the methods of BillingClient, awaited."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Self, Unpack
from uuid import UUID

import httpx

from ciris_billing._blocks import AsyncBlocks
from ciris_billing._calls import FailPolicy
from ciris_billing._cost_records import Work
from ciris_billing._following import Follower
from ciris_billing._methods import awaited
from ciris_billing._operations import Operations
from ciris_billing._runs import RunBlock
from ciris_billing._wire import Pages, check_credential
from ciris_billing.cost_records import CostRecordOpening, CostRecordSink, OpeningFields, Recording
from ciris_billing.gate import Gate, HoldingGate, Interaction, Passage
from ciris_billing.holding import AsyncHolding, HeldWork
from ciris_billing.holds import HoldFields, HoldOpening, HoldTerms
from ciris_billing.live import BalanceEvent
from ciris_billing.models import Metadata, Transaction, User, UserFields
from ciris_billing.options import Options
from ciris_billing.runs import Run, RunFields, RunOpening


class AsyncBillingClient(AsyncBlocks):
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
    find_charge = awaited(Operations.find_charge)
    charge_batch = awaited(Operations.charge_batch)
    add_credits = awaited(Operations.add_credits)
    get_or_create_account = awaited(Operations.get_or_create_account)
    get_account = awaited(Operations.get_account)
    transaction_page = awaited(Operations.transaction_page)
    packs = awaited(Operations.packs)
    currencies = awaited(Operations.currencies)
    create_purchase = awaited(Operations.create_purchase)
    purchase_status = awaited(Operations.purchase_status)
    wait_for_purchase = awaited(Operations.wait_for_purchase)
    plans = awaited(Operations.plans)
    subscribe = awaited(Operations.subscribe)
    subscription = awaited(Operations.subscription)
    change_subscription = awaited(Operations.change_subscription)
    cancel_subscription = awaited(Operations.cancel_subscription)
    resume_subscription = awaited(Operations.resume_subscription)
    subscription_portal = awaited(Operations.subscription_portal)
    buy_money = awaited(Operations.buy_money)
    payment_page = awaited(Operations.payment_page)
    auto_refill = awaited(Operations.auto_refill)
    set_auto_refill = awaited(Operations.set_auto_refill)
    cards = awaited(Operations.cards)
    save_card = awaited(Operations.save_card)
    make_card_primary = awaited(Operations.make_card_primary)
    remove_card = awaited(Operations.remove_card)
    signup_grant = awaited(Operations.signup_grant)
    daily_grant = awaited(Operations.daily_grant)
    referral_grant = awaited(Operations.referral_grant)
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
    limits = awaited(Operations.limits)
    set_limit = awaited(Operations.set_limit)
    remove_limit = awaited(Operations.remove_limit)
    get_approval = awaited(Operations.get_approval)
    create_run = awaited(Operations.create_run)
    change_run = awaited(Operations.change_run)
    get_run = awaited(Operations.get_run)
    run_page = awaited(Operations.run_page)
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

    async def watch(
        self, account_id: UUID | str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[BalanceEvent]:
        """Follow an account: a snapshot of its balance, then each ledger entry once, in order, over any interruption.
        Between them come its approvals: the open ones first, then new ones and decisions.

        Of `account_id` by an API key; of the user's own account by a token. `after`: the number of the last entry that
        the caller knows (`entry_no`); the missed ones follow the snapshot. Ends when the account is closed.

        Raises ServiceUnavailable and RateLimited if the first connection is not made within the deadline of calls, and
        NotFound, Unauthorized or PermissionDenied, also once the key or token ends. Later outages are waited out."""
        follower = Follower(self._operations.exchange, account_id, after)
        while not follower.is_over:
            async with aclosing(self._follow(follower)) as events:
                async for event in events:
                    yield event
            if not follower.is_over:
                await asyncio.sleep(follower.wait_s())

    @asynccontextmanager
    async def gate(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
        hold: HoldTerms | None = None,
        **user_fields: Unpack[UserFields],
    ) -> AsyncIterator[Passage]:
        """Check the user's credit, run the block, and charge it. A block that raises or is cancelled is not charged.

        With `hold`, `amount_minor` is an estimate that is held during the block: nothing else can spend it. Afterwards
        the `amount_minor` of the passage is captured: of the hold, and beyond it as far as the balance suffices. A
        block that raises or is cancelled releases the hold with its outcome, as that of `hold` does. The interaction is
        paid for once, also if it is repeated after a failure; `request_id` of the metadata is not stored.

        Raises NoCredit, AccountSuspended or AccountClosed before the block, and the errors of `charge` after it. With
        `hold`, also the errors of `create_hold` before it, and those of `capture_hold` after it."""
        interaction = Interaction(interaction_id, amount_minor, description, metadata)
        if hold is not None:
            async with self._through(HoldingGate(self._operations, user, interaction, user_fields, hold)) as passage:
                yield passage
            return
        gate = Gate(self._operations, user, interaction, user_fields)
        passage = await self._run(gate.enter())
        yield passage
        await self._run(gate.charge(passage))

    @asynccontextmanager
    async def record(
        self, user: User | None = None, *, tool: str, **opening: Unpack[OpeningFields]
    ) -> AsyncIterator[Recording]:
        """Open a cost record, run the block, which adds items to it, and queue its outcome: charged once, or never if
        the block raises or is cancelled. Needs a UsageReporter (`usage` of the client).

        The items and the outcome are delivered by the reporter. They survive an outage and the death of this process,
        and a failure to store the outcome is only logged. With the same `request_id`, work that was completed before is
        charged no second time (`replayed`).

        Raises before the block: InsufficientMoney, LimitExceeded, RunRefused, AccountSuspended, AccountClosed;
        CostRecordSettled for a `request_id` whose work has failed or expired; Unavailable with the policy
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

        Raises before the block: InsufficientCredits, InsufficientMoney, LimitExceeded, RunRefused, AccountSuspended,
        AccountClosed, HoldSettled for an `idempotency_key` whose hold was released or has expired, and Unavailable,
        with either policy."""
        async with self._on_hold(HeldWork(self._operations, HoldOpening(user=user, **opening))) as held:
            yield held

    @asynccontextmanager
    async def run(self, user: User | None = None, *, run_id: str, **opening: Unpack[RunFields]) -> AsyncIterator[Run]:
        """Register a run, run the block, whose work names it, and close the run, also if the block raises. Takes the
        fields of a RunOpening. Pass `run_id=run.run_id` to `charge`, `tool_charge`, `hold` and `record`, and in usage.

        A run that could not be closed is logged, and stays open. The same `run_id` names one run: another block needs
        another id.

        Raises before the block the errors of `create_run`, and Unavailable, with either policy."""
        block = RunBlock(self._operations, RunOpening(run_id=run_id, user=user, **opening))
        run = await self._run(block.enter())
        async with self._settled(block):
            yield run

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
