"""Agents that hold before they spend, whose runs have budgets, and that ask a person: their load, and its audit."""

import asyncio
import random
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.books import connected
from tests.databases import Urls

if TYPE_CHECKING:
    from tests.chaos.load import Caller, Journal

RETRY_AFTER_S = 0.25
CAREFUL = "careful"
"""The agent whom a limit of 0 lets spend nothing without a person."""
ROOT_BUDGET, STEP_BUDGET = 5, 3
"""Credits of a run, and of each of the two runs below it: the second one ends at its parent's budget."""
HOLDS = "/v1/billing/holds"
HELD, CAPTURED = 2, 1
"""Credits of a hold, and of its capture."""
SETTLEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "capture": ({"amount_minor": 100 * CAPTURED}, "charge_id"),
    "release": ({"outcome": "client_abort"}, "status"),
}
"""Settlements by name: the request's body, and the field of the answer that the audit compares with the hold."""
KINDS = ("hold", *SETTLEMENTS, "run", "charge in a run", "charge that asks", "approval")
REFUSALS = {"charge in a run": "run_budget_exceeded", "charge that asks": "approval_required"}
"""The code of the 402 that a kind of request may receive."""
OVERSPENT = """
    SELECT r.run_id, r.budget, r.spent_credits, coalesce(sum(c.cost), 0) AS charged
      FROM runs r
      LEFT JOIN runs w ON w.account_id = r.account_id AND (w.run_uuid = r.run_uuid OR r.run_uuid = ANY (w.ancestors))
      LEFT JOIN charges c ON c.account_id = w.account_id AND c.run_id = w.run_id
     GROUP BY r.account_id, r.run_uuid, r.run_id, r.budget, r.spent_credits
    HAVING coalesce(sum(c.cost), 0) > r.budget OR coalesce(sum(c.cost), 0) <> r.spent_credits
    """
UNAPPROVED = """
    SELECT a.account_id, spent.charges, spent.credits, used.approvals, used.allowed
      FROM accounts a,
           LATERAL (SELECT count(*) AS charges, coalesce(sum(cost), 0) AS credits FROM charges
                     WHERE account_id = a.account_id AND metadata ->> 'agent_id' = $1) spent,
           LATERAL (SELECT count(*) AS approvals, coalesce(sum(allowed), 0) AS allowed FROM approvals
                     WHERE account_id = a.account_id AND status = 'used' AND agent_id = $1) used
     WHERE spent.charges <> used.approvals OR spent.credits > used.allowed
    """


class ControlLoad:
    """The callers' work in runs and with approvals. Each request is sent again until it is answered, or given up."""

    def __init__(self, caller: "Caller", journal: "Journal", admin: str, choice: random.Random) -> None:
        self._caller, self._journal, self._random = caller, journal, choice
        self._admin = {"Authorization": f"Bearer {admin}"}

    async def delegate(self, user: dict[str, str]) -> None:
        """Register a run with two runs below it, and charge in each until its budget, or its parent's, is spent."""
        name = uuid.uuid4().hex
        for run_id, parent, credits in ((name, None, ROOT_BUDGET), *((f"{name}{i}", name, STEP_BUDGET) for i in "12")):
            body = {**user, "run_id": run_id, "parent_run_id": parent, "budget": {"amount_minor": credits * 100}}
            if await self._send("run", "/v1/billing/runs", body) is None:
                return
        steps = [self._charge_until_refused(user, f"{name}{i}") for i in "12"]
        await asyncio.gather(*steps)

    async def reserve(self, user: dict[str, str]) -> None:
        """Hold credits twice: capture a part of the one hold, release the other."""
        await asyncio.gather(*(self._hold_and_settle(user, kind) for kind in SETTLEMENTS))

    async def _hold_and_settle(self, user: dict[str, str], kind: str) -> None:
        """The settlement is sent twice at the same time: it happens once."""
        key = uuid.uuid4().hex
        held = await self._send("hold", HOLDS, {**user, "amount_minor": 100 * HELD, "idempotency_key": key})
        if held is None:
            return
        body, member = SETTLEMENTS[kind]
        path = f"{HOLDS}/{held[0]['hold_id']}/{kind}"
        self._journal.sent[kind].add(key)
        for settled in await asyncio.gather(*(self._send(kind, path, body) for _ in range(2))):
            if settled is not None and "code" not in settled[0]:  # 409: it had expired, as after a jump of the clock
                self._journal.acknowledge(kind, key, settled[0][member])

    async def _charge_until_refused(self, user: dict[str, str], run_id: str) -> None:
        for _ in range(ROOT_BUDGET + 1):
            body = {**user, "amount_minor": 100, "run_id": run_id, "idempotency_key": uuid.uuid4().hex}
            answer = await self._charge("charge in a run", body)
            if answer is None or "code" in answer:
                return

    async def ask(self, user: dict[str, str]) -> None:
        """Charge, let a person allow what was refused, and charge again: the same, and then as much once more."""
        metadata = {"agent_id": CAREFUL}
        body = {**user, "amount_minor": 100 * self._random.randint(1, 3), "metadata": metadata}
        first = {**body, "idempotency_key": uuid.uuid4().hex}
        refused = await self._charge("charge that asks", first)
        if refused is None or "approval_id" not in refused:
            return
        path = f"/admin/approvals/{refused['approval_id']}/approve"
        if await self._send("approval", path, {"reason": "load"}, self._admin) is None:
            return
        await asyncio.gather(
            self._charge("charge that asks", first),
            self._charge("charge that asks", {**body, "idempotency_key": uuid.uuid4().hex}),
        )

    async def _charge(self, kind: str, body: dict[str, Any]) -> Any:
        self._journal.sent[kind].add(body["idempotency_key"])
        sent = await self._send(kind, "/v1/billing/charges", body)
        if sent is None:
            return None
        answer, existing = sent
        if "charge_id" in answer or existing:
            self._journal.acknowledge(kind, body["idempotency_key"], existing or answer["charge_id"])
            return {}
        return answer

    async def _send(
        self, kind: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[Any, str | None] | None:
        """The answer's body, and the charge that it repeats. None: given up."""
        for _ in range(4):
            status, answer, got = await self._caller.call(kind, "POST", path, body, headers)
            if status in (200, 201, 402, 409):
                return answer, got.get("X-Existing-Charge-ID")
            await asyncio.sleep(RETRY_AFTER_S)
        return None


async def control_problems(urls: Urls) -> list[str]:
    """Say which budgets are exceeded or miscounted, and where charges and used approvals differ."""
    async with connected(urls) as connection:
        runs = await connection.fetch(OVERSPENT)
        accounts = await connection.fetch(UNAPPROVED, CAREFUL)
    return [*_told("run", runs), *_told("approvals", accounts)]


def _told(what: str, rows: Sequence[Any]) -> list[str]:
    return [f"{what}: {dict(row)}" for row in rows]
