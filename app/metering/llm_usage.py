"""LLM usage reports: the tokens and the cost of an interaction's calls, as its proxy states them. Moves no credits."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from app.accounts.erasure import lock_person
from app.db import Database, new_id
from app.ledger.errors import AccountClosed
from app.metering import queries


@dataclass(frozen=True, slots=True)
class LlmUsageReport:
    """`actual_cost_cents` is exact: fractions of a cent are kept."""

    interaction_id: str
    call_id: str | None
    total_llm_calls: int
    total_prompt_tokens: int
    total_completion_tokens: int
    models_used: list[str]
    actual_cost_cents: Decimal
    duration_ms: int
    error_count: int
    fallback_count: int


async def record_llm_usage(db: Database, account_id: UUID, report: LlmUsageReport, now: datetime) -> UUID:
    """Record a report, and return its id. The same call of an interaction again changes nothing.

    Raises AccountClosed when the account's person is erased.
    """
    usage_log_id = new_id()
    row = {name: getattr(report, name) for name in LlmUsageReport.__slots__}
    async with db.transaction() as tx:
        if not await lock_person(tx, account_id):
            raise AccountClosed
        values = {**row, "account_id": account_id, "usage_log_id": usage_log_id, "created_at": now}
        if not await queries.insert_llm_usage(tx, values):
            assert report.call_id is not None
            return await queries.find_llm_usage(tx, account_id, report.interaction_id, report.call_id)
    return usage_log_id
