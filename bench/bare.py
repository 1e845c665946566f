"""The ceiling: the same framework, models and server, but without authentication, log lines and database."""

from datetime import UTC, datetime
from uuid import UUID

from fastapi import FastAPI

from app.billing.schemas import ChargeBody, ChargeMetadata, ChargeReply

app = FastAPI()
NOBODY = UUID(int=0)


@app.post("/v1/billing/charges", status_code=201)
async def charge(body: ChargeBody) -> ChargeReply:
    return ChargeReply(
        charge_id=NOBODY,
        account_id=NOBODY,
        amount_minor=body.amount_minor,
        currency=body.currency,
        balance_after=0,
        created_at=datetime.now(UTC),
        description=body.description or "Agent interaction",
        metadata=body.metadata or ChargeMetadata(),
    )
