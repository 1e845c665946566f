"""Wire types of `/admin/system`."""

from typing import Any
from uuid import UUID

from pydantic import Field

from app.admin.purchases.schemas import PaymentEventReply
from app.auth.caller import Environment
from app.http.schemas import Reply, Timestamp
from app.outbox import JobStatus


class QueueReply(Reply):
    waiting: int
    failed: int
    oldest_waiting_at: Timestamp | None


class WebhooksReply(Reply):
    environment: Environment
    last_received_at: Timestamp | None
    received_24h: int
    for_review_24h: int


class LedgerReply(Reply):
    finished_at: Timestamp
    ok: bool
    accounts: int
    entries: int
    problem: str | None


class ReplicaReply(Reply):
    in_use: bool = Field(description="Lists and reports are read from the replica.")
    lag_s: float | None = Field(description="The replica's lag in seconds, at most; null: unknown.")


class SystemReply(Reply):
    version: str
    now: Timestamp
    database: str = Field(description="PostgreSQL's version.")
    migration: str
    worker_seen_at: Timestamp | None = Field(description="Last heartbeat of any worker.")
    queue: QueueReply
    webhooks: list[WebhooksReply]
    ledger: LedgerReply | None
    replica: ReplicaReply | None = Field(description="null: no read replica.")
    paid_but_not_credited: int
    for_review: int


class JobReply(Reply):
    job_id: int
    task: str
    status: JobStatus
    args: dict[str, Any] = Field(description="The job's arguments, without any that may be secret.")
    attempts: int
    created_at: Timestamp | None
    scheduled_at: Timestamp | None = Field(description="When the job is or was due.")
    changed_at: Timestamp | None = Field(description="When the job last changed, such as when it failed.")


class JobsReply(Reply):
    jobs: list[JobReply]
    next_cursor: int | None


class InboxEvent(PaymentEventReply):
    environment: Environment
    payment_id: str | None
    purchase_id: UUID | None


class InboxReply(Reply):
    events: list[InboxEvent]
    next_cursor: str | None
