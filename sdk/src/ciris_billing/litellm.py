"""Billing of LiteLLM calls by interaction. Needs the extra `[litellm]`.

billing = LiteLLMBilling(BillingClient("https://billing.example.com", api_key))
litellm.callbacks.append(billing)

A call's `metadata` contains the user who pays and the interaction: `oauth_provider`, `external_id`, `interaction_id`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import datetime
from types import TracebackType
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from ciris_billing._interactions import Call, Interaction, Interactions
from ciris_billing.client import BillingClient
from ciris_billing.errors import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    InsufficientMoney,
    InvalidRequest,
    PaymentRequired,
    Unavailable,
)
from ciris_billing.gate import NoCredit, refusal
from ciris_billing.keys import charge_key
from ciris_billing.models import User
from ciris_billing.usage import UsageSink

log = logging.getLogger("ciris_billing")

UserOf = Callable[[Mapping[str, Any]], User | None]
"""Returns the user who pays for a call, from its metadata, to which LiteLLM's proxy adds its data about the caller.
None: the call is free."""
SUMMARY = "summary"


def user_in_metadata(metadata: Mapping[str, Any]) -> User:
    """Return the user in a call's metadata. Raises InvalidRequest if there is none."""
    provider, external_id = metadata.get("oauth_provider"), metadata.get("external_id")
    if not (isinstance(provider, str) and isinstance(external_id, str)):
        raise InvalidRequest("The call's metadata has to contain the user who pays: add oauth_provider and external_id")
    return User(provider, external_id)


class LiteLLMBilling(CustomLogger):  # type: ignore[misc]  # litellm is not installed for type checks
    """LiteLLM callback that checks credit before a call, charges its interaction once, and reports its usage.

    **Before a call**: an awaited call (`acompletion`…) of a user without credit raises NoCredit before a model is
    called; in LiteLLM's proxy it returns 402. Calls of an interaction that is already charged are allowed. LiteLLM
    ignores errors that a callback raises in a blocking `completion`: put such calls into an `interaction` block.

    **After a call**: the first successful call charges `amount_minor` for the interaction. Further calls charge
    nothing, in any process, because the idempotency key is derived from `interaction_id`. A call without an
    `interaction_id` is a separate interaction with LiteLLM's call id. Traces and sessions are not used as ids, because
    a whole conversation would be charged only once. In an `interaction` block, the charge follows at the end; a block
    that raises is not charged.

    **Reports**: one per call, including failed ones, under LiteLLM's call id, and one summary per interaction with
    several calls: at the end of its block, when it was idle for `idle_s` and another call ends, or at `close`. Costs
    are LiteLLM's; a model without a price is reported with cost 0. A cost or count that is negative or not a number is
    logged and reported as 0; the other values are not affected.

    **Usage events**: with `usage`, a UsageReporter, each successful call is also a usage event under LiteLLM's call id,
    which the service prices by its price book and charges in money. Answers from LiteLLM's cache are no usage. With
    `amount_minor` None, calls cost money only: no credits are charged, and a user with less than a cent gets
    InsufficientMoney instead of NoCredit. The metadata can contain `agent_id`, `tool`, `run_id` (by default the
    interaction's id), `parent_run_id`, `session_id` and `traceparent`.

    Uses the blocking client, which is thread-safe, because LiteLLM calls back from threads and from any event loop. A
    charge or report that cannot be delivered is logged with its key, and does not raise into a successful call.
    """

    _pays_by_hold = False

    def __init__(
        self,
        client: BillingClient,
        *,
        user_of: UserOf = user_in_metadata,
        amount_minor: int | None = 100,
        description: str | None = "LLM interaction",
        idle_s: float = 60.0,
        settle_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        usage: UsageSink | None = None,
    ) -> None:
        if amount_minor is None and usage is None and not self._pays_by_hold:
            raise TypeError("calls cost nothing: pass an amount_minor, or usage")
        super().__init__()
        self._client = client
        self._usage = usage
        self._user_of = user_of
        self._amount_minor = amount_minor
        self._description = description
        self._settle_s = settle_s
        self._interactions = Interactions(idle_s=idle_s, clock=clock)

    def interaction(self, user: User, interaction_id: str) -> "Block":
        """Return a context manager, for `with` or `async with`, whose calls are one interaction: checked before the
        block, charged after it, and not charged if it raises. It yields the `metadata` to pass to LiteLLM.

        Raises the errors of `BillingClient.gate`."""
        return Block(self._block(user, interaction_id))

    def finish(self, user: User, interaction_id: str) -> None:
        """Send the summary report of an ended interaction now, instead of after `idle_s`."""
        self._sum_up(self._interactions.take(user, interaction_id))

    def close(self) -> None:
        """Send the summary reports of all remaining interactions. Does not close the client."""
        for interaction in self._interactions.take_all():
            self._sum_up(interaction)

    # Callbacks of LiteLLM

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Check credit in LiteLLM's proxy, before a request is processed."""
        try:
            await asyncio.to_thread(self._check, data)
        except BillingError as error:
            raise refused(error) from error

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Check credit before an awaited call is sent. LiteLLM passes errors to the caller."""
        await asyncio.to_thread(self._check, kwargs)

    def log_pre_api_call(self, model: str, messages: Any, kwargs: dict[str, Any]) -> None:
        call = Call.of(kwargs)
        with suppress(InvalidRequest):  # `_ended` reports it
            if (user := self._user_of(call.metadata)) is not None:
                self._interactions.begin(user, call)

    def log_success_event(self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._ended(kwargs, start_time, end_time, failed=False)

    def log_failure_event(self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._ended(kwargs, start_time, end_time, failed=True)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        await asyncio.to_thread(self._ended, kwargs, start_time, end_time, failed=False)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        await asyncio.to_thread(self._ended, kwargs, start_time, end_time, failed=True)

    # Implementation

    @contextmanager
    def _block(self, user: User, interaction_id: str) -> Iterator[dict[str, Any]]:
        with self._gate(user, interaction_id):
            interaction = self._interactions.find(user, interaction_id)
            interaction.in_block = interaction.admitted = True
            try:
                yield metadata_of(user, interaction_id)
            finally:
                self._interactions.wait_for(interaction, self._settle_s)
                self.finish(user, interaction_id)

    def _gate(self, user: User, interaction_id: str) -> AbstractContextManager[object]:
        if self._amount_minor is None:
            self._require_money(user)
            return nullcontext()
        return self._client.gate(
            user, interaction_id=interaction_id, amount_minor=self._amount_minor, description=self._description
        )

    def _check(self, kwargs: Mapping[str, Any]) -> None:
        """Check the user's credit, unless the call's interaction was already admitted or charged. Raises the errors of
        a gate."""
        call = Call.of(kwargs)
        user = self._user_of(call.metadata)
        if user is None or self._interactions.is_admitted(user, call.interaction_id):
            return
        if self._amount_minor is None:
            self._require_money(user)
            return
        error = refusal(self._client.check_credit(user), self._amount_minor)
        if error is not None and not (isinstance(error, NoCredit) and self._is_paid_for(user, call.interaction_id)):
            raise error
        self._interactions.find(user, call.interaction_id).admitted = True

    def _is_paid_for(self, user: User, interaction_id: str) -> bool:
        """Whether this interaction is already charged, by any process."""
        try:
            return self._client.was_charged(user, interaction_id=interaction_id)
        except BillingError:
            return False

    def _require_money(self, user: User) -> None:
        """Raise InsufficientMoney, AccountSuspended or AccountClosed if the user has less than a cent."""
        check = self._client.check_usage(user, required_cents=1)
        if check.sufficient:
            return
        match check.reason:
            case "account_suspended":
                raise AccountSuspended("Account suspended")
            case "account_closed":
                raise AccountClosed("Account closed")
        raise InsufficientMoney(
            f"Insufficient money. Balance: {check.balance} {check.currency}, required: {check.required}",
            balance=check.balance,
            required=check.required,
            balance_cents=check.balance_cents,
            required_cents=check.required_cents,
            currency=check.currency,
        )

    def _charge(self, user: User, interaction_id: str, amount_minor: int) -> None:
        key = charge_key(interaction_id)
        self._client.charge(user, idempotency_key=key, amount_minor=amount_minor, description=self._description)

    def _ended(self, kwargs: Mapping[str, Any], start_time: Any, end_time: Any, *, failed: bool) -> None:
        """Charge the call's interaction, if it is not charged yet, and report the call. Errors of the service are
        logged."""
        if _is_refusal(kwargs.get("exception")):
            return  # no model was called
        call = Call.ended(kwargs, _milliseconds(start_time, end_time), failed=failed)
        try:
            user = self._user_of(call.metadata)
        except InvalidRequest as error:
            if not failed:
                _not_delivered("charge", call.interaction_id, error)
            return
        if user is None:
            return
        interaction = self._interactions.find(user, call.interaction_id)
        if self._amount_minor is not None and self._interactions.needs_charge(interaction, call):
            try:
                self._charge(user, call.interaction_id, self._amount_minor)
                interaction.charged = True
            except BillingError as error:
                interaction.admitted = False  # the next call is checked again
                _not_delivered("charge", call.interaction_id, error)
        self._report(interaction, call.report())
        self._report_usage(user, call)
        self._interactions.end(interaction, call)
        for old in self._interactions.take_old():
            self._sum_up(old)

    def _sum_up(self, interaction: Interaction | None) -> None:
        """Send the summary report of several calls. For a single call it would only repeat its report."""
        if interaction is not None and interaction.calls > 1:
            self._report(interaction, {**interaction.report(), "call_id": SUMMARY})

    def _report_usage(self, user: User, call: Call) -> None:
        if self._usage is None or call.failed or call.from_cache:
            return
        try:
            self._usage.report(call.usage_event(user))
        except (BillingError, ValueError) as error:
            fields = {"billing_event_id": call.call_id, "billing_code": getattr(error, "code", "invalid_request")}
            log.error("billing usage not queued: %s", fields["billing_code"], extra=fields)

    def _report(self, interaction: Interaction, report: Mapping[str, Any]) -> None:
        try:
            self._client.report_llm_usage(interaction.user, interaction_id=interaction.interaction_id, **report)
        except BillingError as error:
            _not_delivered("report", interaction.interaction_id, error)


class Block:
    """The context manager of LiteLLMBilling.interaction."""

    def __init__(self, block: AbstractContextManager[dict[str, Any]]) -> None:
        self._block = block

    def __enter__(self) -> dict[str, Any]:
        return self._block.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._block.__exit__(kind, error, trace)

    async def __aenter__(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._block.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._block.__exit__, kind, error, trace)


def metadata_of(user: User, interaction_id: str) -> dict[str, Any]:
    """Return metadata for a call, as `user_in_metadata` reads it. LiteLLM also passes metadata to other callbacks."""
    return {
        "oauth_provider": user.oauth_provider,
        "external_id": user.external_id,
        "interaction_id": interaction_id,
    }


def refused(error: BillingError) -> Exception:
    """Return the HTTP error by which LiteLLM's proxy answers."""
    from fastapi import HTTPException  # installed with the proxy

    return HTTPException(_status(error), error.message)


def _status(error: BillingError) -> int:
    match error:
        case PaymentRequired():
            return 402
        case AccountSuspended() | AccountClosed():
            return 403
        case InvalidRequest():
            return 400
        case Unavailable():
            return 503
    return 500


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the error comes from `_check`, directly or as the cause of the proxy's HTTP error."""
    return isinstance(error, BillingError) or (error is not None and isinstance(error.__cause__, BillingError))


def _milliseconds(start_time: Any, end_time: Any) -> int:
    if isinstance(start_time, datetime) and isinstance(end_time, datetime):
        return max(0, round((end_time - start_time).total_seconds() * 1000))
    return 0


def _not_delivered(kind: str, interaction_id: str, error: BillingError) -> None:
    fields = {"interaction_id": interaction_id, "code": error.code, "request_id": error.request_id}
    extra = {f"billing_{name}": value for name, value in fields.items()}
    log.error("billing %s not delivered: %s", kind, error.code, extra=extra)
