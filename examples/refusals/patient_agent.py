"""An agent that reads nothing but refusals: it shrinks its work, waits, asks a person and buys, until it has finished.

    BILLING_URL=… BILLING_API_KEY=… python examples/refusals/patient_agent.py USER CREDITS

Each 402 lists its `remedies` in the order in which to try them. The agent follows the first one that it can, and sends
the rest of its work again. It knows no limits, prices or balances.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

POLL_S = 0.5
Remedy = dict[str, Any]


class GaveUp(Exception):
    """No remedy helped. The refusal's `detail` is the message."""


async def sleep_until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


async def tell_person(what: str, about: dict[str, Any]) -> None:
    """Show a person what to approve or to pay. A real agent sends a message to its user."""
    print(f"Please {what}: {about}")


@dataclass
class Agent:
    """Spends credits of one user. `user`: the fields that name it. `billing`: a client with an API key."""

    billing: httpx.AsyncClient
    user: dict[str, str]
    patience: timedelta = timedelta(minutes=5)
    """The longest wait. A person is asked rather than waiting longer."""
    wait: Callable[[datetime], Awaitable[None]] = sleep_until
    tell: Callable[[str, dict[str, Any]], Awaitable[None]] = tell_person
    followed: list[str] = field(default_factory=list)
    """The types of the remedies that were followed, in their order."""

    async def spend(self, credits: int) -> list[int]:
        """Charge credits, in as many parts as refusals demand. Returns the parts. Raises GaveUp."""
        task, parts, size = uuid.uuid4().hex, list[int](), credits
        while sum(parts) < credits:
            size = min(size, credits - sum(parts))
            charge = {**self.user, "amount_minor": size * 100, "idempotency_key": f"{task}-{len(parts)}"}
            answer = await self.billing.post("/v1/billing/charges", json=charge)
            if answer.status_code == 402:
                size = await self._follow(answer.json(), size)
                continue
            if answer.status_code != 409:  # 409: the part is charged, and only its answer was lost
                answer.raise_for_status()
            parts.append(size)
            size = credits
        return parts

    async def _follow(self, refusal: dict[str, Any], size: int) -> int:
        """Follow the first remedy that the agent can. Returns the credits to ask for next. Raises GaveUp."""
        for remedy in refusal["remedies"]:
            match remedy:
                case {"type": "smaller_amount", "amount_minor": int(minor)} if minor >= 100:
                    size = minor // 100
                case {"type": "wait", "until": str(until)} if self._is_soon(until):
                    await self.wait(datetime.fromisoformat(until))
                case {"type": "purchase"}:
                    await self._buy(remedy)
                case {"type": "request_approval", "approval_id": str(approval_id)}:
                    await self._ask(approval_id)
                case _:
                    continue
            self.followed.append(remedy["type"])
            return size
        raise GaveUp(refusal["detail"])

    def _is_soon(self, until: str) -> bool:
        return datetime.fromisoformat(until) - datetime.now(UTC) <= self.patience

    async def _buy(self, offer: Remedy) -> None:
        """Start the offered purchases. A person pays them."""
        for _ in range(offer["count"]):
            answer = await self.billing.post(offer["path"], json={**self.user, "pack": offer["pack"]})
            purchase = answer.raise_for_status().json()
            await self.tell("pay", purchase)
            await self._poll(f"{offer['path']}/{purchase['payment_id']}/status", "succeeded")

    async def _ask(self, approval_id: str) -> None:
        await self.tell("approve", {"approval_id": approval_id})
        await self._poll(f"/v1/billing/approvals/{approval_id}", "approved")

    async def _poll(self, path: str, wanted: str) -> None:
        """Wait until a purchase or an approval has the wanted status. Raises GaveUp when it ends with another one."""
        while (status := (await self.billing.get(path)).raise_for_status().json()["status"]) != wanted:
            if status in ("failed", "canceled", "denied", "expired", "used"):
                raise GaveUp(f"{path} is {status}")
            await asyncio.sleep(POLL_S)


async def main(user: str, credits: int) -> None:
    headers = {"X-API-Key": os.environ["BILLING_API_KEY"]}
    async with httpx.AsyncClient(base_url=os.environ["BILLING_URL"], headers=headers, timeout=10) as billing:
        agent = Agent(billing, {"oauth_provider": "oauth:example", "external_id": user})
        try:
            parts = await agent.spend(credits)
            print(f"Spent {credits} credit{'s' * (credits > 1)}, in parts of {', '.join(map(str, parts))}")
        except GaveUp as error:
            print(f"Gave up: {error}")
        print(f"Followed: {', '.join(agent.followed) or 'nothing'}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
