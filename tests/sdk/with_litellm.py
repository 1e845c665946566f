"""The scenarios of test_litellm.py, run in LiteLLM's own environment: real LiteLLM, a real service, and our own model.

Each scenario uses separate users, `<scenario>@example.com`, and asserts what can be seen from here; the test asserts
the service's records. Prints one line for each scenario that held.
"""

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import litellm
from fastapi import HTTPException
from litellm.caching.caching import DualCache
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.utils import ProxyLogging

from ciris_billing import (
    BillingClient,
    InsufficientCredits,
    InvalidRequest,
    NoCredit,
    Options,
    ServiceUnavailable,
    User,
)
from ciris_billing.litellm import LiteLLMBilling, metadata_of
from tests.sdk.litellm_support import ask, call, ended, model, prompts, use, who
from tests.sdk.litellm_usage import metered, money_only


async def awaited(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Six calls of two interactions: two uses. Then one use is left for one more, and nothing for the next."""
    user = who("awaited")
    for interaction in ("i-1", "i-2"):
        for _ in range(3):
            await ask("hello", metadata_of(user, interaction))
    assert client.check_credit(user).total_uses == 2
    await ask("last", metadata_of(user, "i-3"))
    models_asked = len(prompts)
    try:
        await ask("refused", metadata_of(user, "i-4"))
    except NoCredit as error:
        assert error.credit_status.purchase_uses == 20
    else:
        raise AssertionError("not refused")
    assert len(prompts) == models_asked
    await ask("the rest of what is paid for", metadata_of(user, "i-3"))
    fresh = LiteLLMBilling(client)  # another worker of the same proxy, which knows nothing of i-3
    use(fresh)
    await ask("and from another process", metadata_of(user, "i-3"))
    fresh.close()
    assert client.check_credit(user).total_uses == 3


async def same_name(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Two users may give their interactions the same name: each pays."""
    first, second = who("same_name"), who("same_name_too")
    await ask("hello", metadata_of(first, "1"))
    await ask("hello", metadata_of(second, "1"))
    assert [client.check_credit(user).total_uses for user in (first, second)] == [1, 1]


async def unnamed(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Without an interaction's name each call is one; without a payer's there is no call."""
    user = who("unnamed")
    metadata = {
        "oauth_provider": user.oauth_provider,
        "external_id": user.external_id,
        "trace_id": "a",
        "session_id": "b",
    }
    for _ in range(2):
        await ask("hello", metadata)
    assert client.check_credit(user).total_uses == 2
    models_asked = len(prompts)
    for nobody in ({}, None, {"oauth_provider": 1, "external_id": None}):
        try:
            await ask("nobody", nobody)
        except InvalidRequest as error:
            assert "the user who pays" in str(error)
        else:
            raise AssertionError("not refused")
    assert len(prompts) == models_asked
    use(LiteLLMBilling(client, user_of=lambda metadata: None))
    await ask("on the house", None)


async def failing(client: BillingClient, billing: LiteLLMBilling) -> None:
    """A call that fails is reported and not charged."""
    user = who("failing")
    for _ in range(2):
        with contextlib.suppress(litellm.InternalServerError):
            await ask("fail", metadata_of(user, "i"))
            raise AssertionError("not failed")
    assert client.check_credit(user).total_uses == 0


async def odd_prices(client: BillingClient, billing: LiteLLMBilling) -> None:
    """A price that is wrong by configuration: the call is charged and reported nevertheless."""
    user = who("odd_prices")
    for price in (-0.0000147, float("inf"), float("nan")):
        # LiteLLM keeps the prices for the model's name, which no other scenario uses.
        prices = {"model": "openai/odd", "input_cost_per_token": price, "output_cost_per_token": 0.0}
        await ask("hello", metadata_of(user, str(price)), **prices)
    assert client.check_credit(user).total_uses == 3


async def streamed(client: BillingClient, billing: LiteLLMBilling) -> None:
    user = who("streamed")
    stream = await litellm.acompletion(**call("hi", metadata_of(user, "i"), stream=True, mock_response="Hello there"))
    assert client.check_credit(user).total_uses == 0
    async with ended.of_a_call():
        async for _ in stream:
            pass
    assert client.check_credit(user).total_uses == 1


async def in_block(client: BillingClient, billing: LiteLLMBilling) -> None:
    """A block is charged once, at its end, and not if it raises; its calls are reported either way."""
    user = who("in_block")
    async with billing.interaction(user, "i-1") as metadata:
        await litellm.acompletion(**call("one", metadata))
        await litellm.acompletion(**call("two", metadata))
        assert client.check_credit(user).total_uses == 0
    assert client.check_credit(user).total_uses == 1
    with contextlib.suppress(ZeroDivisionError):
        async with billing.interaction(user, "i-2") as metadata:
            await litellm.acompletion(**call("three", metadata))
            raise ZeroDivisionError
    assert client.check_credit(user).total_uses == 1


def blocking(client: BillingClient, billing: LiteLLMBilling) -> None:
    """The same for code that blocks, where only the block can refuse."""
    user = who("blocking")
    for number in range(3):
        with billing.interaction(user, f"i-{number}") as metadata:
            for _ in range(2):
                litellm.completion(**call("hello", metadata))
    models_asked = len(prompts)
    try:
        with billing.interaction(user, "i-3") as metadata:
            litellm.completion(**call("refused", metadata))
    except NoCredit:
        pass
    else:
        raise AssertionError("not refused")
    assert (client.check_credit(user).total_uses, len(prompts)) == (3, models_asked)


async def unpaid_after_all(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Credit that is spent elsewhere during a call ends the interaction with that call."""
    user = who("unpaid_after_all")
    client.charge(user, interaction_id="most", amount_minor=200)

    class Spender(CustomLogger):  # type: ignore[misc]  # see the SDK
        async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
            with contextlib.suppress(InsufficientCredits):
                client.charge(user, interaction_id="the rest")

    use(billing, Spender())
    await ask("hello", metadata_of(user, "i"))
    with contextlib.suppress(NoCredit):
        async with asyncio.timeout(30):
            while True:  # LiteLLM reports the first call in the background, and only then is it charged
                await ask("refused", metadata_of(user, "i"))


class BuysAfterCheck(httpx.HTTPTransport):
    """The user buys credits after the answer of a check and before the next request."""

    def __init__(self, user: User) -> None:
        super().__init__()
        self._user = user

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if request.url.path.endswith("/check"):
            with BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_CREDITING_KEY"]) as seller:
                seller.add_credits(self._user, amount_minor=100, idempotency_key="bought")
        return answer


async def bought_meanwhile(client: BillingClient, billing: LiteLLMBilling) -> None:
    """To ask whether an interaction is paid for costs nothing, also when that could be paid by now."""
    user = who("bought_meanwhile")
    client.charge(user, interaction_id="all that is free", amount_minor=300)
    with httpx.Client(transport=BuysAfterCheck(user)) as http:
        buyer = BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"], http_client=http)
        use(LiteLLMBilling(buyer))
        with contextlib.suppress(NoCredit, litellm.InternalServerError):
            await ask("fail", metadata_of(user, "i"))
            raise AssertionError("not failed")
    assert client.check_credit(user).uses_remaining == 1


async def in_proxy(client: BillingClient, billing: LiteLLMBilling) -> None:
    """The hook as LiteLLM's proxy calls it, before it chooses a model."""
    user, proxy = who("in_proxy"), ProxyLogging(user_api_key_cache=DualCache())
    caller = litellm.proxy._types.UserAPIKeyAuth(api_key="sk-test")

    async def request(interaction: str) -> None:
        metadata, call_id = metadata_of(user, interaction), f"call-{interaction}"
        data = {"metadata": metadata, "litellm_call_id": call_id}
        await proxy.pre_call_hook(user_api_key_dict=caller, data=data, call_type="acompletion")
        await ask("hello", metadata, litellm_call_id=call_id)

    for number in range(3):
        await request(f"i-{number}")
    try:
        await request("i-3")
    except HTTPException as error:
        assert (error.status_code, error.detail) == (402, "No free uses or credits remaining")
        told = {"exception": error, "metadata": metadata_of(user, "i-3"), "litellm_call_id": "call-i-3"}
        await billing.async_log_failure_event(told, None, None, None)  # as the proxy does
    else:
        raise AssertionError("not refused")


async def service_away(client: BillingClient, billing: LiteLLMBilling) -> None:
    """Closed by default; with the policy "fail_open" the call runs, and a failed delivery is logged, not raised."""
    user, models_asked = who("service_away"), len(prompts)
    quick = Options(deadline_s=0.2)
    with BillingClient("http://127.0.0.1:9", "key", options=quick) as away:
        use(LiteLLMBilling(away))
        try:
            await ask("refused", metadata_of(user, "i"))
        except ServiceUnavailable:
            pass
        else:
            raise AssertionError("not refused")
        assert len(prompts) == models_asked
    with BillingClient("http://127.0.0.1:9", "key", options=Options(deadline_s=0.2, policy="fail_open")) as open_:
        use(LiteLLMBilling(open_))
        await ask("allowed", metadata_of(user, "i"))
    assert len(prompts) == models_asked + 1


def documented(client: BillingClient, blocks: dict[str, str]) -> None:
    """The documentation's blocks as they stand, all of which pay for the same message of the same user."""
    for name, code in blocks.items():
        use()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), {"__name__": "page"})
        assert printed.getvalue().strip() in ("Hello, Ada.", "Forty-two."), name
        print(name)
    assert client.check_credit(User("oauth:google", "chatter@example.com")).total_uses == 1


AWAITED = (
    awaited,
    same_name,
    unnamed,
    failing,
    streamed,
    in_block,
    unpaid_after_all,
    bought_meanwhile,
    in_proxy,
    odd_prices,
    metered,
    money_only,
    service_away,
)


@contextlib.asynccontextmanager
async def installed(client: BillingClient, **options: Any) -> AsyncIterator[LiteLLMBilling]:
    billing = LiteLLMBilling(client, **options)
    use(billing)
    yield billing
    billing.close()


async def main(client: BillingClient) -> None:
    for scenario in AWAITED:
        async with installed(client) as billing:
            await scenario(client, billing)
        print(scenario.__name__, flush=True)


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    with BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"]) as client, model() as url:
        os.environ["MODEL_URL"] = url
        asyncio.run(main(client))
        billing = LiteLLMBilling(client)
        use(billing)
        blocking(client, billing)
        print("blocking")
        documented(client, json.load(sys.stdin))
