"""Wire format of batches of charges. A result has the status and the body that the single route would answer."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.billing.schemas import ChargeReply, InsufficientCreditsReply, ReplayedCharge
from app.http.schemas import ErrorReply, InvalidReply, Reply

MAX_BATCH = 1_000


class ChargeBatchBody(BaseModel):
    charges: list[Any] = Field(
        max_length=MAX_BATCH, description="Bodies of `/v1/billing/charges`. A malformed one fails alone, as any other."
    )


class ChargeResult(Reply):
    """The outcome of one charge of a batch."""

    idempotency_key: str | None = Field(description="As it was sent.")
    success: bool = Field(description="Whether the charge is recorded: now (201), or before (409 `charge_exists`).")
    status: int = Field(description="As `/v1/billing/charges` would answer.", examples=[201])
    probable_double_of: UUID | None = Field(
        default=None,
        description="The charge that this one probably repeats. Only for API keys that flag or refuse such charges.",
    )
    body: ChargeReply | ReplayedCharge | InsufficientCreditsReply | InvalidReply | ErrorReply


class ChargeBatchReply(Reply):
    results: list[ChargeResult] = Field(description="One for each charge, in their order.")
    processed: int = Field(description="Charges that are recorded now.")
    replayed: int = Field(description="Charges that were recorded before.")
    failed: int
