"""Queries of reported LLM usage."""

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.db import Session
from app.metering.models import LlmUsage


async def insert_llm_usage(tx: Session, row: dict[str, Any]) -> bool:
    """False when the interaction's call has been reported. Waits for a concurrent report of it to commit."""
    keys = ["account_id", "interaction_id", "call_id"]
    statement = insert(LlmUsage).values(**row).on_conflict_do_nothing(index_elements=keys)
    return (await tx.execute(statement.returning(LlmUsage.usage_log_id))).scalar_one_or_none() is not None


async def find_llm_usage(tx: Session, account_id: UUID, interaction_id: str, call_id: str) -> UUID:
    query = select(LlmUsage.usage_log_id).where(
        LlmUsage.account_id == account_id, LlmUsage.interaction_id == interaction_id, LlmUsage.call_id == call_id
    )
    usage_log_id: UUID = (await tx.execute(query)).scalar_one()
    return usage_log_id
