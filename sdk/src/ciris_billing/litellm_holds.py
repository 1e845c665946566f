"""Billing of LiteLLM calls by holds: the estimate before a call, the real cost after it. Needs the extra `[litellm]`.

billing = LiteLLMHolds(BillingClient("https://billing.example.com", api_key))
litellm.callbacks.append(billing)
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from litellm._internal_context import is_internal_call

from ciris_billing._call_holds import CallHolds, HeldCalls, OpenHold
from ciris_billing._call_tokens import Delivery, estimated
from ciris_billing._interactions import Call
from ciris_billing.client import BillingClient
from ciris_billing.errors import BillingError, InvalidRequest
from ciris_billing.gate import refusal
from ciris_billing.litellm import LiteLLMBilling, UserOf, refused, user_in_metadata
from ciris_billing.models import User
from ciris_billing.usage import UsageSink

__all__ = ["CallHolds", "LiteLLMHolds"]

NO_RETRY = 400
"""The status by which LiteLLM's router neither repeats a refused call nor takes its deployment out of service."""


class LiteLLMHolds(LiteLLMBilling):
    """LiteLLM callback that holds the estimate of each call, captures its cost, and reports its usage as LiteLLMBilling
    does.

    **Before a call**: an awaited call (`acompletion`…) holds its estimate (CallHolds). A user who cannot pay for it,
    or whose limit or run does not allow it, gets PaymentRequired before a model is called; in LiteLLM's proxy, 402.

    **After a call**: the cost is captured: of the hold, and beyond it as far as the balance suffices. A failed call
    releases its hold with the outcome `provider_error`, a cancelled one with `client_abort`, an answer from LiteLLM's
    cache with `cache_hit`. Each try of the router holds after the one before has released, for its own model.

    **Streams**: a stream that is cut off costs what `on_cut` of CallHolds says. LiteLLM's proxy passes its streams to
    this callback. In other code, iterate over `billing.stream(response)`; a stream that is not passed to it, and whose
    end LiteLLM does not report, leaves its hold to the end of its block, or to its expiry.

    Blocking `completion` calls hold nothing, because LiteLLM ignores errors that a callback raises there. They are
    charged after success, as far as the balance suffices: put them into an `interaction` block, which requires some
    credit.

    Captured money is a usage event, so no UsageReporter may report these calls, too. `usage` is only for calls that
    cost credits.
    """

    _pays_by_hold = True

    def __init__(
        self,
        client: BillingClient,
        *,
        holds: CallHolds | None = None,
        user_of: UserOf = user_in_metadata,
        idle_s: float = 60.0,
        settle_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        usage: UsageSink | None = None,
    ) -> None:
        self._terms = holds or CallHolds()
        if usage is not None and self._terms.in_money:
            raise TypeError("calls would cost money twice: pass usage, or holds in money")
        super().__init__(
            client, user_of=user_of, amount_minor=None, idle_s=idle_s, settle_s=settle_s, clock=clock, usage=usage
        )
        self._clock = clock
        self._held = HeldCalls(client, self._terms)
        self._settlements = Settlements()
        self._of_tasks = CallsOfTasks(self._abandon, is_open=lambda call_id: self._held.find(call_id) is not None)

    async def stream(self, response: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Iterate over the stream that an awaited call has returned. If the iteration ends early, the call is settled
        by the policy for cut streams."""
        call_id = getattr(getattr(response, "logging_obj", None), "litellm_call_id", None)
        finished = False
        try:
            async with aclosing(self._watched(response, call_id)) as chunks:
                async for chunk in chunks:
                    yield chunk
            finished = True
        finally:
            if not finished and hasattr(response, "aclose"):
                await response.aclose()

    def close(self) -> None:
        """Wait for settlements in the background, and send the summary reports of all remaining interactions. Does not
        close the client."""
        self._settlements.wait()
        super().close()

    # Callbacks of LiteLLM

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> None:
        """Require some credit in LiteLLM's proxy, before it chooses a model."""
        try:
            user = self._user_of(Call.of(data).metadata)
            if user is not None:
                await asyncio.to_thread(self._require_some, user)
        except BillingError as error:
            raise refused(error) from error

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Hold the estimate of a try before it is sent. LiteLLM passes errors to the caller."""
        if kwargs.get("fallbacks") or is_internal_call.get():
            return  # each of the calls within it holds; a part of another call reports no end
        call_id = _call_id(kwargs)
        opening = asyncio.create_task(asyncio.to_thread(self._open, kwargs, getattr(call_type, "value", call_type)))
        try:
            hold = await asyncio.shield(opening)
        except BillingError as error:
            vars(error)["status_code"] = NO_RETRY
            raise
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: None if done.exception() else self._abandon(call_id))
            raise
        if hold is not None:
            self._of_tasks.add(call_id)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, Any], exception: Exception, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        """Release the hold of a failed try, before the router tries again."""
        hold = self._held.take(_call_id(request_data))
        if hold is not None:
            await asyncio.to_thread(self._held.release, hold, "provider_error")

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> Any:
        """Return the status of a refusal in LiteLLM's proxy."""
        return refused(original_exception) if isinstance(original_exception, BillingError) else None

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Pass on a stream of LiteLLM's proxy."""
        async with aclosing(self._watched(response, request_data.get("litellm_call_id"))) as chunks:
            async for chunk in chunks:
                yield chunk

    # Implementation

    @contextmanager
    def _block(self, user: User, interaction_id: str) -> Iterator[dict[str, Any]]:
        try:
            with super()._block(user, interaction_id) as metadata:
                yield metadata
        finally:
            for hold in self._held.of_interaction(user, interaction_id):
                self._held.cut(self._given_up(hold), "client_abort")

    def _gate(self, user: User, interaction_id: str) -> AbstractContextManager[object]:
        self._require_some(user)
        return nullcontext()

    def _require_some(self, user: User) -> None:
        """Raise the error of a gate if the user has less than a cent, or a credit."""
        if self._terms.in_money:
            self._require_money(user)
        elif (error := refusal(self._client.check_credit(user), 1)) is not None:
            raise error

    def _open(self, kwargs: Mapping[str, Any], call_type: object) -> OpenHold | None:
        call = Call.of({**kwargs, "litellm_call_id": _call_id(kwargs)})
        user = self._user_of(call.metadata)
        if user is None:
            return None
        tokens = estimated(kwargs, call_type, self._terms.max_tokens)
        return self._held.open(user, call, tokens, is_stream=bool(kwargs.get("stream")))

    def _ended(self, kwargs: Mapping[str, Any], start_time: Any, end_time: Any, *, failed: bool) -> None:
        if not isinstance(kwargs.get("exception"), BillingError):
            call = Call.ended(kwargs, 0, failed=failed)
            if failed:
                self._failed(call, end_time if isinstance(end_time, datetime) and end_time.tzinfo is None else None)
            else:
                self._succeeded(call)
        super()._ended(kwargs, start_time, end_time, failed=failed)

    def _failed(self, call: Call, at: datetime | None) -> None:
        hold = self._held.take(call.call_id, at)
        if hold is None:
            return
        used = call.tokens() if call.completion_tokens else None
        if used is not None or hold.delivered_tokens:
            self._held.decide(call.call_id)
        self._held.cut(hold, "provider_error", used)

    def _succeeded(self, call: Call) -> None:
        hold = self._held.take(call.call_id)
        try:
            user = hold.user if hold is not None else self._user_of(call.metadata)
        except InvalidRequest:
            return  # reported by the base class
        if user is not None:
            self._held.succeeded(user, call, hold)

    async def _watched(self, response: AsyncIterator[Any], call_id: str | None) -> AsyncGenerator[Any, None]:
        """Pass on a stream, report its progress, and settle its hold if it is cut off."""
        hold = None if call_id is None else self._held.find(call_id)
        delivery, next_s = Delivery(), self._clock() + self._terms.report_every_s
        try:
            async for chunk in response:
                delivery.add(chunk)
                if hold is not None and self._clock() >= next_s and self._terms.on_cut == "capture_reported":
                    next_s = self._clock() + self._terms.report_every_s
                    self._settlements.submit(self._report_progress, hold, delivery.copy())
                yield chunk
        except Exception:
            if hold is not None:
                hold.delivered_tokens = delivery.tokens()
            raise  # LiteLLM reports the failure, and what was used
        except BaseException:
            if hold is not None and self._held.take_this(hold):
                self._settlements.submit(self._cut_off, self._given_up(hold), delivery)
            raise

    def _report_progress(self, hold: OpenHold, delivery: "Delivery") -> None:
        hold.delivered_tokens = max(hold.delivered_tokens, delivery.tokens())
        self._held.report(hold)

    def _cut_off(self, hold: OpenHold, delivery: "Delivery") -> None:
        hold.delivered_tokens = max(hold.delivered_tokens, delivery.tokens())
        self._held.cut(hold, "client_abort")

    def _abandon(self, call_id: str) -> None:
        """Settle the hold of a call whose task was cancelled."""
        if (hold := self._held.take(call_id)) is not None:
            self._settlements.submit(self._held.cut, self._given_up(hold), "client_abort")

    def _given_up(self, hold: OpenHold) -> OpenHold:
        """Note that a call has ended, and that a stream will pay nothing later."""
        if hold.is_stream:
            self._held.decide(hold.call_id)
        self._interactions.drop(hold.user, hold.interaction_id, hold.call_id)
        return hold


class Settlements:
    """Settlements in threads, which a cancelled task does not stop. The interpreter waits for them at its end."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(4, "billing-holds")
        self._running: set[Future[None]] = set()

    def submit(self, function: Callable[..., None], *args: object) -> None:
        future = self._pool.submit(function, *args)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def wait(self) -> None:
        wait(list(self._running))


class CallsOfTasks:
    """The calls of tasks, so that a cancelled task abandons them: LiteLLM reports no end then."""

    def __init__(self, abandon: Callable[[str], None], *, is_open: Callable[[str], bool]) -> None:
        self._abandon = abandon
        self._is_open = is_open
        self._calls: WeakKeyDictionary[asyncio.Task[Any], set[str]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def add(self, call_id: str) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        with self._lock:
            if task not in self._calls:
                task.add_done_callback(self._ended)
            self._calls[task] = {call_id, *filter(self._is_open, self._calls.get(task, ()))}

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        with self._lock:
            calls = self._calls.pop(task, set())
        if task.cancelled():
            for call_id in calls:
                self._abandon(call_id)


def _call_id(kwargs: Mapping[str, Any]) -> str:
    """Return the id under which LiteLLM reports the call's end. Calls with fallbacks have another one inside."""
    return str(getattr(kwargs.get("litellm_logging_obj"), "litellm_call_id", None) or kwargs.get("litellm_call_id"))
