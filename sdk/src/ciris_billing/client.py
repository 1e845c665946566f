"""The blocking client. The async one (async_client.py) has the same methods with the same arguments."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, Unpack
from uuid import UUID

import httpx

from ciris_billing._blocks import BlockingBlocks
from ciris_billing._calls import FailPolicy
from ciris_billing._cost_records import Work
from ciris_billing._following import Follower
from ciris_billing._methods import blocking
from ciris_billing._operations import Operations
from ciris_billing._runs import RunBlock
from ciris_billing._wire import Pages, check_credential
from ciris_billing.async_client import AsyncBillingClient
from ciris_billing.cost_records import CostRecordOpening, CostRecordSink, OpeningFields, Recording
from ciris_billing.gate import Gate, HoldingGate, Interaction, Passage
from ciris_billing.holding import HeldWork, Holding
from ciris_billing.holds import HoldFields, HoldOpening, HoldTerms
from ciris_billing.live import BalanceEvent
from ciris_billing.models import Metadata, Transaction, User, UserFields
from ciris_billing.options import Options
from ciris_billing.runs import Run, RunFields, RunOpening

__all__ = ["AsyncBillingClient", "BillingClient"]  # callers import both from here


class BillingClient(BlockingBlocks):
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
    find_charge = blocking(Operations.find_charge)
    charge_batch = blocking(Operations.charge_batch)
    add_credits = blocking(Operations.add_credits)
    get_or_create_account = blocking(Operations.get_or_create_account)
    get_account = blocking(Operations.get_account)
    transaction_page = blocking(Operations.transaction_page)
    packs = blocking(Operations.packs)
    currencies = blocking(Operations.currencies)
    create_purchase = blocking(Operations.create_purchase)
    purchase_status = blocking(Operations.purchase_status)
    wait_for_purchase = blocking(Operations.wait_for_purchase)
    plans = blocking(Operations.plans)
    subscribe = blocking(Operations.subscribe)
    subscription = blocking(Operations.subscription)
    change_subscription = blocking(Operations.change_subscription)
    cancel_subscription = blocking(Operations.cancel_subscription)
    resume_subscription = blocking(Operations.resume_subscription)
    subscription_portal = blocking(Operations.subscription_portal)
    buy_money = blocking(Operations.buy_money)
    payment_page = blocking(Operations.payment_page)
    auto_refill = blocking(Operations.auto_refill)
    set_auto_refill = blocking(Operations.set_auto_refill)
    cards = blocking(Operations.cards)
    save_card = blocking(Operations.save_card)
    make_card_primary = blocking(Operations.make_card_primary)
    remove_card = blocking(Operations.remove_card)
    signup_grant = blocking(Operations.signup_grant)
    daily_grant = blocking(Operations.daily_grant)
    referral_grant = blocking(Operations.referral_grant)
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
    limits = blocking(Operations.limits)
    set_limit = blocking(Operations.set_limit)
    remove_limit = blocking(Operations.remove_limit)
    get_approval = blocking(Operations.get_approval)
    create_run = blocking(Operations.create_run)
    change_run = blocking(Operations.change_run)
    get_run = blocking(Operations.get_run)
    run_page = blocking(Operations.run_page)
    health = blocking(Operations.health)

    def transactions(
        self, user: User | None = None, *, page_size: int = 100, **user_fields: Unpack[UserFields]
    ) -> Iterator[Transaction]:
        """Iterate over all charges and credits, newest first. Pages are fetched on demand, and each entry is returned
        once, even if new ones are added during the iteration."""
        pages = Pages()
        while pages.more:
            yield from pages.new_in(self.transaction_page(user, limit=page_size, offset=pages.offset, **user_fields))

    def watch(self, account_id: UUID | str | None = None, *, after: int | None = None) -> Iterator[BalanceEvent]:
        """Follow an account: a snapshot of its balance, then each ledger entry once, in order, over any interruption.
        Between them come its approvals: the open ones first, then new ones and decisions.

        Of `account_id` by an API key; of the user's own account by a token. `after`: the number of the last entry that
        the caller knows (`entry_no`); the missed ones follow the snapshot. Ends when the account is closed.

        Raises ServiceUnavailable and RateLimited if the first connection is not made within the deadline of calls, and
        NotFound, Unauthorized or PermissionDenied, also once the key or token ends. Later outages are waited out."""
        follower = Follower(self._operations.exchange, account_id, after)
        while not follower.is_over:
            yield from self._follow(follower)
            if not follower.is_over:
                time.sleep(follower.wait_s())

    @contextmanager
    def gate(
        self,
        user: User | None = None,
        *,
        interaction_id: str,
        amount_minor: int = 100,
        description: str | None = None,
        metadata: Metadata | None = None,
        hold: HoldTerms | None = None,
        **user_fields: Unpack[UserFields],
    ) -> Iterator[Passage]:
        """Check the user's credit, run the block, and charge it. A block that raises is not charged.

        With `hold`, `amount_minor` is an estimate that is held during the block: nothing else can spend it. Afterwards
        the `amount_minor` of the passage is captured: of the hold, and beyond it as far as the balance suffices. A
        block that raises releases the hold with its outcome, as that of `hold` does. The interaction is paid for once,
        also if it is repeated after a failure; `request_id` of the metadata is not stored.

        Raises NoCredit, AccountSuspended or AccountClosed before the block, and the errors of `charge` after it. With
        `hold`, also the errors of `create_hold` before it, and those of `capture_hold` after it."""
        interaction = Interaction(interaction_id, amount_minor, description, metadata)
        if hold is not None:
            with self._through(HoldingGate(self._operations, user, interaction, user_fields, hold)) as passage:
                yield passage
            return
        gate = Gate(self._operations, user, interaction, user_fields)
        passage = self._run(gate.enter())
        yield passage
        self._run(gate.charge(passage))

    @contextmanager
    def record(self, user: User | None = None, *, tool: str, **opening: Unpack[OpeningFields]) -> Iterator[Recording]:
        """Open a cost record, run the block, which adds items to it, and queue its outcome: charged once, or never if
        the block raises. Needs a UsageReporter (`usage` of the client).

        The items and the outcome are delivered by the reporter. They survive an outage and the death of this process,
        and a failure to store the outcome is only logged. With the same `request_id`, work that was completed before is
        charged no second time (`replayed`).

        Raises before the block: InsufficientMoney, LimitExceeded, RunRefused, AccountSuspended, AccountClosed;
        CostRecordSettled for a `request_id` whose work has failed or expired; Unavailable with the policy
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

        Raises before the block: InsufficientCredits, InsufficientMoney, LimitExceeded, RunRefused, AccountSuspended,
        AccountClosed, HoldSettled for an `idempotency_key` whose hold was released or has expired, and Unavailable,
        with either policy."""
        with self._on_hold(HeldWork(self._operations, HoldOpening(user=user, **opening))) as held:
            yield held

    @contextmanager
    def run(self, user: User | None = None, *, run_id: str, **opening: Unpack[RunFields]) -> Iterator[Run]:
        """Register a run, run the block, whose work names it, and close the run, also if the block raises. Takes the
        fields of a RunOpening. Pass `run_id=run.run_id` to `charge`, `tool_charge`, `hold` and `record`, and in usage.

        A run that could not be closed is logged, and stays open. The same `run_id` names one run: another block needs
        another id.

        Raises before the block the errors of `create_run`, and Unavailable, with either policy."""
        block = RunBlock(self._operations, RunOpening(run_id=run_id, user=user, **opening))
        run = self._run(block.enter())
        with self._settled(block):
            yield run

    def close(self) -> None:
        """Close the connections, unless the caller passed an `http_client`."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
