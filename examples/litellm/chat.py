"""Interactions of two LLM calls, each charged once, until the user has no credits left.

BILLING_URL=… BILLING_API_KEY=… python examples/litellm/chat.py ada@example.com

With OPENAI_API_KEY set, a model answers; otherwise LiteLLM returns a mock response.
"""

import asyncio
import os
import sys

import litellm

from ciris_billing import BillingClient, NoCredit, User
from ciris_billing.litellm import LiteLLMBilling

MOCK = {} if "OPENAI_API_KEY" in os.environ else {"mock_response": "Forty-two."}


async def answer(billing: LiteLLMBilling, user: User, message_id: str, question: str) -> str:
    async with billing.interaction(user, message_id) as metadata:
        plan = await ask(f"Plan an answer to: {question}", metadata)
        return await ask(f"By this plan: {plan} Answer: {question}", metadata)


async def ask(text: str, metadata: dict[str, str]) -> str:
    messages = [{"role": "user", "content": text}]
    reply = await litellm.acompletion(model="gpt-4o-mini", messages=messages, metadata=metadata, **MOCK)
    return str(reply.choices[0].message.content)


async def main(name: str) -> None:
    user = User("oauth:example", name)
    with BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"]) as client:
        billing = LiteLLMBilling(client)
        litellm.callbacks.append(billing)
        for number in range(1, 5):
            try:
                print(await answer(billing, user, f"message-{number}", "What is the answer?"))
            except NoCredit as refused:
                offer = refused.credit_status
                print(f"Out of credit: {offer.purchase_uses} uses cost {offer.purchase_price_minor}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
