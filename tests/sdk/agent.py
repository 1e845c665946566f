"""An agent's own API around the SDK's routes, as a host would write it."""

from typing import Annotated

import httpx
from fastapi import FastAPI, Header, HTTPException

from ciris_billing import Passage, User
from ciris_billing.fastapi import CreditProvider, billing_router, require_credit


def current_user(authorization: Annotated[str | None, Header()] = None) -> User:
    """The session's user; here the bearer token is the user's id."""
    if authorization is None:
        raise HTTPException(401, "Not authenticated")
    return User("oauth:agent", authorization.removeprefix("Bearer "))


def create_agent(provider: CreditProvider) -> FastAPI:
    app = FastAPI()
    app.include_router(billing_router(provider, current_user))

    def message_id(message: str) -> str:
        return f"message-{message}"

    paid = require_credit(provider, current_user, interaction_id=message_id, description="Agent interaction")

    @app.post("/interact/{message}")
    async def interact(message: str, passage: Annotated[Passage, paid]) -> dict[str, object]:
        if message == "broken":
            raise HTTPException(502, "The model is down")
        if message == "dear":
            passage.amount_minor = 100_000
        return {"uses": passage.status.uses_remaining}

    @app.post("/unnamed", dependencies=[require_credit(provider, current_user)])
    async def unnamed() -> None:
        return None

    return app


def browser(agent: FastAPI, user_id: str | None) -> httpx.AsyncClient:
    """The agent's UI, signed in as a user or not at all."""
    headers = {} if user_id is None else {"Authorization": f"Bearer {user_id}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(agent), base_url="http://agent", headers=headers)
