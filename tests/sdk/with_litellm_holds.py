"""The scenarios of test_litellm_holds.py, run in LiteLLM's own environment, as with_litellm.py runs others.

Each scenario has a separate user with a dollar and three credits, and asserts what can be seen from here; the test
asserts the stored holds.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import litellm
from fastapi import HTTPException
from litellm._internal_context import is_internal_call
from litellm.caching.caching import Cache, DualCache
from litellm.proxy.utils import ProxyLogging

from ciris_billing import (
    BillingClient,
    FailPolicy,
    InsufficientCredits,
    InsufficientMoney,
    Options,
    ServiceUnavailable,
    UsageEvent,
    User,
)
from ciris_billing._call_tokens import estimated
from ciris_billing.holds import OnExpiry
from ciris_billing.litellm import metadata_of
from ciris_billing.litellm_holds import CallHolds, LiteLLMHolds
from tests.sdk.litellm_holding import CUT, SMALL, Spy, installed, who
from tests.sdk.litellm_support import WORDS, ask, call, ended, go_on, model, prompts


async def money(client: BillingClient) -> None:
    """The estimate is held during the call, and the real cost captured: once less, once more than it."""
    user = who("money")
    spy = Spy(lambda: client.check_usage(user).balance)
    with installed(client, SMALL, spy):
        await ask("hello", metadata_of(user, "i-1"))
        await ask("hello", metadata_of(user, "i-1") | {"run_id": "run-1", "agent_id": "datum"}, max_tokens=10)
        await ask("hello", metadata_of(user, "i-2"), max_completion_tokens=500, n=2)
    held = [balance for balance in spy.seen if balance is not None]
    assert [round(0.9999 - float(str(balance)), 3) for balance in held] == [0.001, 0.0, 0.001], held


async def refused(client: BillingClient) -> None:
    """No model is called, and the router neither tries again nor takes the deployment out of service."""
    poor, rich = who("refused"), who("refused_rich")
    router = litellm.Router(model_list=[deployment("chat"), deployment("chat")], num_retries=2, retry_after=0)
    with installed(client, CallHolds(max_tokens=2_000_000)):
        asked = len(prompts)
        for call_of in (litellm.acompletion(**call("no", metadata_of(poor, "i"))), routed(router, "chat", poor)):
            try:
                await call_of
            except InsufficientMoney as error:
                assert error.currency == "USD"
            else:
                raise AssertionError("not refused")
        assert len(prompts) == asked
    with installed(client):
        async with ended.of_a_call():
            await routed(router, "chat", rich)
    assert len(prompts) == asked + 1


async def failed(client: BillingClient) -> None:
    with installed(client):
        for retries in (0, 1):
            with contextlib.suppress(litellm.InternalServerError):
                await ask("fail", metadata_of(who("failed"), "i"), num_retries=retries)
                raise AssertionError("not failed")


def deployment(name: str, **params: Any) -> dict[str, Any]:
    where = {"model": "openai/gpt-4o-mini", "api_base": os.environ["MODEL_URL"], "api_key": "none", "max_retries": 0}
    return {"model_name": name, "litellm_params": {**where, **params}}


async def routed(router: litellm.Router, name: str, user: User, text: str = "hello", **more: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return await router.acompletion(model=name, messages=messages, metadata=metadata_of(user, "i"), **more)


async def retried(client: BillingClient) -> None:
    """Each try releases before the next one holds, by any id; the successful one is captured."""
    user = who("retried")
    away = deployment("away", model="anthropic/claude-3-5-sonnet", api_base="http://127.0.0.1:9/v1")
    models = [away, deployment("near")]
    router = litellm.Router(model_list=models, fallbacks=[{"away": ["near"]}], num_retries=1, retry_after=0)
    spy = Spy(lambda: float(client.check_usage(user).balance or 0))
    with installed(client, SMALL, spy):
        for number, more in enumerate(({}, {"litellm_call_id": "proxy-1"}), start=1):
            await routed(router, "away", user, **more)
            while spy.successes < number:  # noqa: ASYNC110  # the failures before it are events, too
                await asyncio.sleep(0.01)
    assert len(spy.seen) == 6
    assert all(isinstance(left, float) and left > 0.98 for left in spy.seen)  # one of the dearer model holds 1.5 cents


async def with_fallbacks(client: BillingClient) -> None:
    """LiteLLM's own list of fallbacks makes calls within a call: it holds once."""
    with installed(client):
        await ask("hello", metadata_of(who("with_fallbacks"), "i"), fallbacks=["openai/gpt-4o"])


async def cached(client: BillingClient) -> None:
    sys.modules.setdefault("soundfile", ModuleType("soundfile"))  # imported by LiteLLM's cache, and used for audio only
    litellm.cache = Cache()
    try:
        with installed(client):
            for _ in range(2):
                await ask("remembered", metadata_of(who("cached"), "i"), caching=True)
                await asyncio.sleep(0.05)  # LiteLLM fills its cache after the answer
    finally:
        litellm.cache = None


async def streamed(client: BillingClient) -> None:
    """Captured by the provider's counts at the end; also one that is not passed to the billing."""
    go_on.set()
    with installed(client) as billing:
        for wrap in (billing.stream, lambda response: response):
            async with ended.of_a_call():
                response = await litellm.acompletion(**call("hi", metadata_of(who("streamed"), "i"), stream=True))
                words = [chunk.choices[0].delta.content async for chunk in wrap(response)]
            assert "".join(word or "" for word in words) == "".join(WORDS)


async def cut_stream(client: BillingClient, scenario: str, policy: OnExpiry) -> None:
    """Three of its words have been delivered."""
    go_on.clear()
    with installed(client, CUT[policy]) as billing:
        response = await litellm.acompletion(**call("hi", metadata_of(who(scenario), "i"), stream=True))
        await first_words(billing.stream(response), 3)
        told = {"litellm_call_id": response.logging_obj.litellm_call_id, "metadata": metadata_of(who(scenario), "i")}
        billing.log_success_event(told, None, None, None)  # changes nothing: the policy for cut streams applies
        go_on.set()


async def first_words(stream: AsyncIterator[Any], count: int) -> None:
    async with contextlib.aclosing(stream) as chunks:  # type: ignore[type-var]  # an iterator of LiteLLM's closes too
        async for _ in chunks:
            count -= 1
            if not count:
                return


async def cut_released(client: BillingClient) -> None:
    await cut_stream(client, "cut_released", "release")


async def cut_reported(client: BillingClient) -> None:
    await cut_stream(client, "cut_reported", "capture_reported")


async def cut_all(client: BillingClient) -> None:
    await cut_stream(client, "cut_all", "capture_all")


async def broken(client: BillingClient) -> None:
    """The provider breaks the stream off, by each policy."""
    go_on.set()
    for policy, terms in CUT.items():
        with installed(client, terms) as billing, contextlib.suppress(litellm.exceptions.MidStreamFallbackError):
            async with ended.of_a_call():
                metadata = metadata_of(who("broken"), policy)
                response = await litellm.acompletion(**call("break", metadata, stream=True))
                async for _ in billing.stream(response):
                    pass
                raise AssertionError("not broken")


async def cancelled(client: BillingClient) -> None:
    """In the model, and before it: while the estimate is held."""
    go_on.clear()
    user, asked = who("cancelled"), len(prompts)
    with installed(client) as billing:
        task = asyncio.create_task(litellm.acompletion(**call("wait", metadata_of(user, "i"))))
        while len(prompts) == asked:  # noqa: ASYNC110  # another thread's list
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        task = asyncio.create_task(litellm.acompletion(**call("never", metadata_of(user, "i"))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        go_on.set()
        await asyncio.sleep(0.3)
        billing._settlements.wait()
    assert len(prompts) == asked + 1


KEPT: list[object] = []


async def in_block(client: BillingClient) -> None:
    """The end of a block settles the streams that were left; blocking calls in it are charged after them."""
    user = who("in_block")
    go_on.clear()
    with installed(client, CUT["capture_all"]) as billing:
        billing._settle_s = 0.05
        async with billing.interaction(user, "i-1") as metadata:
            KEPT.append(await litellm.acompletion(**call("hi", metadata, stream=True)))
            go_on.set()
        with billing.interaction(user, "i-2") as metadata:
            await asyncio.to_thread(litellm.completion, **call("hello", metadata))
            await asyncio.sleep(0.3)
        try:
            billing.interaction(who("refused"), "i").__enter__()
        except InsufficientMoney:
            return
        raise AssertionError("not refused")


async def in_proxy(client: BillingClient) -> None:
    """The hooks as LiteLLM's proxy calls them: 402 before a model is chosen, and a stream whose reader goes away."""
    go_on.clear()
    caller = litellm.proxy._types.UserAPIKeyAuth(api_key="sk-test")
    proxy = ProxyLogging(user_api_key_cache=DualCache())
    with installed(client, CUT["capture_reported"]) as billing:
        for user, allowed in ((who("in_proxy"), True), (who("refused"), False)):
            data: dict[str, Any] = {"metadata": metadata_of(user, "i"), "litellm_call_id": f"proxied-{allowed}"}
            try:
                await proxy.pre_call_hook(user_api_key_dict=caller, data=dict(data), call_type="acompletion")
            except HTTPException as error:
                assert (error.status_code, allowed) == (402, False)
                continue
            assert allowed
            response = await litellm.acompletion(**call("hi", stream=True, **data))
            assert proxy.needs_iterator_wrap()
            with proxy_server():
                chunks = proxy.async_post_call_streaming_iterator_hook(
                    response=response, user_api_key_dict=caller, request_data=data
                )
                await first_words(chunks, 3)
            counts = {"model": "gpt-4o-mini", "custom_llm_provider": "openai", "completion_tokens": 3}
            told = {**data, "standard_logging_object": counts}
            await billing.async_log_success_event(told, None, None, None)  # LiteLLM's proxy calls it in this case
        refusal = InsufficientCredits("No credits left")
        answer = await billing.async_post_call_failure_hook({}, refusal, caller)
        assert (answer.status_code, answer.detail) == (402, "No credits left")
        assert await billing.async_post_call_failure_hook({}, ValueError("other"), caller) is None
    go_on.set()


@contextlib.contextmanager
def proxy_server() -> Iterator[None]:
    """The module of the proxy's server, which needs packages that this environment does not contain."""
    server = ModuleType("litellm.proxy.proxy_server")
    vars(server)["llm_router"] = None
    sys.modules[server.__name__] = server
    try:
        yield
    finally:
        del sys.modules[server.__name__]


async def credits(client: BillingClient) -> None:
    """By the price of a credit, and a fixed amount; the fourth call is refused, the cost is rounded up."""
    user = who("credits")
    spy = Spy(lambda: client.check_credit(user).uses_remaining)
    with installed(client, CallHolds(max_tokens=1000, credit_price="0.0004"), spy):
        await ask("hello", metadata_of(user, "i-1"))
    with installed(client, CallHolds(amount_minor=200), spy):
        await ask("hello", metadata_of(user, "i-2"))
        try:
            await ask("refused", metadata_of(user, "i-3"))
        except InsufficientCredits as error:
            assert error.required == 200
        else:
            raise AssertionError("not refused")
    assert spy.seen == [1, 0]


async def outage(client: BillingClient) -> None:
    """Closed by default; with the policy "fail_open" the call runs without a hold."""
    user, asked = who("outage"), len(prompts)
    policies: list[tuple[FailPolicy, bool]] = [("fail_closed", False), ("fail_open", True)]
    for policy, runs in policies:
        options = Options(deadline_s=0.2, policy=policy)
        with BillingClient("http://127.0.0.1:9", "key", options=options) as away, installed(away):
            try:
                await ask("hello", metadata_of(user, policy))
            except ServiceUnavailable:
                assert not runs
            else:
                assert runs
    assert len(prompts) == asked + 1


async def unheld(client: BillingClient) -> None:
    """A blocking call holds nothing, and is charged after success, once."""
    with installed(client) as billing:
        metadata = metadata_of(who("unheld"), "i")
        await asyncio.to_thread(litellm.completion, **call("hello", metadata, litellm_call_id="unheld-1"))
        await asyncio.sleep(0.3)
        told = {"litellm_call_id": "unheld-1", "metadata": metadata, "standard_logging_object": {"prompt_tokens": 9}}
        billing.log_success_event(told, None, None, None)  # repeated: LiteLLM reports some calls twice


async def estimates(client: BillingClient) -> None:
    """The most that a call can use; nothing for a part of another call, and for a free call."""
    messages = [{"role": "user", "content": "hello"}]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]}]
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"messages": messages}, "acompletion", 4096),
        ({"messages": messages, "max_tokens": 50, "n": 3}, "acompletion", 150),
        ({"messages": messages, "max_tokens": 0, "n": "many"}, "acompletion", 4096),
        ({"messages": picture, "max_tokens": 5}, "acompletion", 5),
        ({"prompt": "hello"}, "atext_completion", 4096),
        ({"input": ["hello"]}, "aembedding", 0),
    ]
    for kwargs, call_type, most in cases:
        tokens = estimated({"model": "openai/gpt-4o-mini", **kwargs}, call_type, 4096)
        assert (tokens.provider, tokens.model, tokens.output_tokens) == ("openai", "gpt-4o-mini", most), kwargs
        assert tokens.input_tokens, kwargs
    assert estimated({"model": "no provider's"}, "acompletion", 1).provider == "unknown"
    billing = LiteLLMHolds(client, holds=CallHolds(amount="0.01"))
    kwargs = {**call("hi", metadata_of(who("estimates"), "i")), "litellm_call_id": "inner"}
    within = is_internal_call.set(True)
    await billing.async_pre_call_deployment_hook(kwargs, "acompletion")
    is_internal_call.reset(within)
    free = LiteLLMHolds(client, user_of=lambda metadata: None)
    await free.async_pre_call_deployment_hook(kwargs, "acompletion")
    try:
        LiteLLMHolds(client, usage=Sink())
    except TypeError as error:
        assert "twice" in str(error)
    else:
        raise AssertionError("not refused")


class Sink:
    def report(self, event: UsageEvent) -> str:
        return event.event_id


async def killed(client: BillingClient) -> None:
    """Its process dies, as the last scenario: the progress is reported, and the hold is left to its expiry."""
    go_on.clear()
    with installed(client) as billing:
        response = await litellm.acompletion(**call("hi", metadata_of(who("killed"), "i"), stream=True))
        words = billing.stream(response)
        for _ in range(3):
            await anext(words)
        billing._settlements.wait()
        print("killed", flush=True)
        os._exit(0)


SCENARIOS = (
    *(money, refused, failed, retried, with_fallbacks, cached, streamed, cut_released, cut_reported, cut_all, broken),
    *(cancelled, in_block, in_proxy, credits, outage, unheld, estimates, killed),
)


async def main(client: BillingClient) -> None:
    for scenario in SCENARIOS:
        await scenario(client)
        print(scenario.__name__, flush=True)


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    with BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"]) as client, model() as url:
        os.environ["MODEL_URL"] = url
        asyncio.run(main(client))
