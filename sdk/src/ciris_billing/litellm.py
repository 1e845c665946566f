"""LiteLLM's calls, paid for by the interaction. Needs the extra `[litellm]`.

billing = LiteLLMBilling(BillingClient("https://billing.example.com", api_key))
litellm.callbacks.append(billing)

A call says in its `metadata` who pays and what for: `oauth_provider`, `external_id`, `interaction_id`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
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
    InsufficientCredits,
    InvalidRequest,
    Unavailable,
)
from ciris_billing.gate import NoCredit, refusal
from ciris_billing.keys import charge_key
from ciris_billing.models import User

log = logging.getLogger("ciris_billing")

UserOf = Callable[[Mapping[str, Any]], User | None]
"""Who pays for a call, by its metadata; LiteLLM's proxy puts what it knows of the caller there. None: nobody has to."""
SUMMARY = "summary"


def user_in_metadata(metadata: Mapping[str, Any]) -> User:
    """The user whom a call's metadata names. Raises InvalidRequest for a call that names none."""
    provider, external_id = metadata.get("oauth_provider"), metadata.get("external_id")
    if not (isinstance(provider, str) and isinstance(external_id, str)):
        raise InvalidRequest("The call's metadata has to name who pays: oauth_provider and external_id")
    return User(provider, external_id)


class LiteLLMBilling(CustomLogger):  # type: ignore[misc]  # litellm is not among the packages that types are checked with
    """A callback of LiteLLM that checks before a call, charges its interaction once, and reports what it used.

    **Before**: an awaited call (`acompletion`…) of a user without credit raises NoCredit, and no model is asked; in
    LiteLLM's proxy it answers 402. Calls of an interaction that is charged already go on. LiteLLM swallows what a
    callback raises in a blocking `completion`: put such calls into an `interaction`.

    **After**: the first call that succeeds charges the interaction, `amount_minor`; the further ones do not, in any
    process, because the key is made from `interaction_id`. A call without one is an interaction of its own, under
    LiteLLM's call id: neither its trace nor its session is one, for a conversation would be paid for once. In an
    `interaction` the charge waits for the end of the block, and an exception is not charged.

    **Reports**: one a call, failed ones too, under LiteLLM's call id, and one more that sums up an interaction of
    several calls: at the end of its block, or once it has been idle for `idle_s` and another call ends, or at `close`.
    Costs are LiteLLM's own; a model that it has no price for is reported as costing nothing. A cost or a count that is
    negative or no number is logged and reported as 0, with everything else as it is.

    The client is the blocking one, which threads share: LiteLLM calls back from threads and from any event loop. A
    charge or report that cannot be delivered is logged with its key, and never raises into a call that has succeeded.
    """

    def __init__(
        self,
        client: BillingClient,
        *,
        user_of: UserOf = user_in_metadata,
        amount_minor: int = 100,
        description: str | None = "LLM interaction",
        idle_s: float = 60.0,
        settle_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._client = client
        self._user_of = user_of
        self._amount_minor = amount_minor
        self._description = description
        self._settle_s = settle_s
        self._interactions = Interactions(idle_s=idle_s, clock=clock)

    def interaction(self, user: User, interaction_id: str) -> "Block":
        """A block, `with` or `async with`, whose calls are one interaction: checked before it, charged after it, not
        charged if it raises. It gives the `metadata` to call LiteLLM with.

        Raises what `BillingClient.gate` raises."""
        return Block(self._block(user, interaction_id))

    def finish(self, user: User, interaction_id: str) -> None:
        """Sum up an interaction that has ended, without waiting until it has been idle for long enough."""
        self._sum_up(self._interactions.take(user, interaction_id))

    def close(self) -> None:
        """Sum up every interaction that is left. The client stays open."""
        for interaction in self._interactions.take_all():
            self._sum_up(interaction)

    # What LiteLLM calls

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """In LiteLLM's proxy, before anything else of a request."""
        from fastapi import HTTPException  # the proxy's own

        try:
            await asyncio.to_thread(self._check, data)
        except BillingError as error:
            raise HTTPException(_status(error), error.message) from error

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Before an awaited call is sent: what is raised here, the caller gets."""
        await asyncio.to_thread(self._check, kwargs)

    def log_pre_api_call(self, model: str, messages: Any, kwargs: dict[str, Any]) -> None:
        call = Call.of(kwargs)
        with suppress(InvalidRequest):  # of whom the call's end tells
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

    # What happens then

    @contextmanager
    def _block(self, user: User, interaction_id: str) -> Iterator[dict[str, Any]]:
        with self._client.gate(
            user, interaction_id=interaction_id, amount_minor=self._amount_minor, description=self._description
        ):
            interaction = self._interactions.find(user, interaction_id)
            interaction.in_block = interaction.let_through = True
            try:
                yield metadata_of(user, interaction_id)
            finally:
                self._interactions.wait_for(interaction, self._settle_s)
                self.finish(user, interaction_id)

    def _check(self, kwargs: Mapping[str, Any]) -> None:
        """Raises what a gate raises, unless the call's interaction has been let through or charged before."""
        call = Call.of(kwargs)
        user = self._user_of(call.metadata)
        if user is None or self._interactions.is_let_through(user, call.interaction_id):
            return
        error = refusal(self._client.check_credit(user), self._amount_minor)
        if error is not None and not (isinstance(error, NoCredit) and self._is_paid_for(user, call.interaction_id)):
            raise error
        self._interactions.find(user, call.interaction_id).let_through = True

    def _is_paid_for(self, user: User, interaction_id: str) -> bool:
        """Whether it is this interaction that took the credit, in whatever process."""
        try:
            return self._client.was_charged(user, interaction_id=interaction_id)
        except BillingError:
            return False

    def _charge(self, user: User, interaction_id: str) -> None:
        key = charge_key(interaction_id)
        self._client.charge(user, idempotency_key=key, amount_minor=self._amount_minor, description=self._description)

    def _ended(self, kwargs: Mapping[str, Any], start_time: Any, end_time: Any, *, failed: bool) -> None:
        """Charge the call's interaction, unless it is, and report the call. Raises nothing of the service's."""
        if _is_refusal(kwargs.get("exception")):
            return  # no model was asked
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
        if self._interactions.needs_charge(interaction, call):
            try:
                self._charge(user, call.interaction_id)
                interaction.charged = True
            except BillingError as error:
                interaction.let_through = False  # the next call is checked again
                _not_delivered("charge", call.interaction_id, error)
        self._report(interaction, call.report())
        self._interactions.end(interaction, call)
        for old in self._interactions.take_old():
            self._sum_up(old)

    def _sum_up(self, interaction: Interaction | None) -> None:
        """One report for several calls. Of a single call it would count as another call, and says nothing new."""
        if interaction is not None and interaction.calls > 1:
            self._report(interaction, {**interaction.report(), "call_id": SUMMARY})

    def _report(self, interaction: Interaction, report: Mapping[str, Any]) -> None:
        try:
            self._client.report_llm_usage(interaction.user, interaction_id=interaction.interaction_id, **report)
        except BillingError as error:
            _not_delivered("report", interaction.interaction_id, error)


class Block:
    """An interaction's block; see LiteLLMBilling.interaction."""

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
    """A call's metadata as `user_in_metadata` reads it. LiteLLM hands metadata to its other callbacks too."""
    return {
        "oauth_provider": user.oauth_provider,
        "external_id": user.external_id,
        "interaction_id": interaction_id,
    }


def _status(error: BillingError) -> int:
    match error:
        case InsufficientCredits():
            return 402
        case AccountSuspended() | AccountClosed():
            return 403
        case InvalidRequest():
            return 400
        case Unavailable():
            return 503
    return 500


def _is_refusal(error: BaseException | None) -> bool:
    """Whether it is what `_check` raised, or what the proxy was given for it."""
    return isinstance(error, BillingError) or (error is not None and isinstance(error.__cause__, BillingError))


def _milliseconds(start_time: Any, end_time: Any) -> int:
    if isinstance(start_time, datetime) and isinstance(end_time, datetime):
        return max(0, round((end_time - start_time).total_seconds() * 1000))
    return 0


def _not_delivered(what: str, interaction_id: str, error: BillingError) -> None:
    fields = {"interaction_id": interaction_id, "code": error.code, "request_id": error.request_id}
    extra = {f"billing_{name}": value for name, value in fields.items()}
    log.error("billing %s not delivered: %s", what, error.code, extra=extra)
