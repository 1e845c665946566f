"""An API with one route that charges per request. The header `Authorization: Bearer NAME` signs NAME in.

BILLING_URL=… BILLING_API_KEY=… uvicorn --app-dir examples/fastapi paid_api:app --port 8101
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException

from ciris_billing import AsyncBillingClient, Passage, User
from ciris_billing.fastapi import CIRISBillingProvider, billing_router, require_credit


def current_user(authorization: Annotated[str | None, Header()] = None) -> User:
    """Accept every name without a check: a real API verifies a token."""
    if authorization is None:
        raise HTTPException(401, "Not authenticated")
    return User("oauth:example", authorization.removeprefix("Bearer "))


client = AsyncBillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"])
provider = CIRISBillingProvider(client, agent_id="paid-api")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.aclose()


app = FastAPI(title="Paid API", lifespan=lifespan)
app.include_router(billing_router(provider, current_user))


@app.post("/reverse")
async def reverse(
    text: str, passage: Annotated[Passage, require_credit(provider, current_user)]
) -> dict[str, str | int]:
    """Reverse a text. Charged after it returns; an error costs nothing."""
    if not text:
        raise HTTPException(422, "Nothing to reverse")
    return {"text": text[::-1], "uses_left_before": passage.status.uses_remaining}
