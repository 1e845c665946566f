"""A small agent that charges for its answers: sign in, ask, run out of credits, buy more, continue.

    BILLING_URL=… BILLING_API_KEY=… uvicorn --app-dir examples/agent example_agent:create_app --factory --port 8100

Without BILLING_URL, it gives three free answers per user, without purchases.
"""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field, StringConstraints

from ciris_billing import AsyncBillingClient, User
from ciris_billing.fastapi import (
    CIRISBillingProvider,
    CreditProvider,
    SimpleCreditProvider,
    billing_router,
    require_credit,
)

HERE = Path(__file__).parent
PAGE_POLICY = "default-src 'self'; frame-ancestors 'none'"


class SignIn(BaseModel):
    """Any person's name, such as Jürgen Müller, 王秀英 or O'Neil."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^\x00]+$")]


class Question(BaseModel):
    text: str = Field(min_length=1, max_length=1000)


class Answer(BaseModel):
    text: str


class Config(BaseModel):
    pay_url: str | None
    """The payment page of the demo's local Stripe. With the real Stripe, use Stripe.js in the browser instead."""


class Sessions:
    """Sessions in memory. Accepts every name without a check: a real agent needs a password or a Google sign-in."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}

    def open(self, name: str) -> str:
        token = secrets.token_urlsafe(32)
        self._users[token] = User("oauth:example", name)
        return token

    def close(self, session: Annotated[str | None, Cookie()] = None) -> None:
        self._users.pop(session or "", None)

    def current_user(self, session: Annotated[str | None, Cookie()] = None) -> User:
        user = self._users.get(session or "")
        if user is None:
            raise HTTPException(401, "Not authenticated")
        return user


def create_app() -> FastAPI:
    url, client = os.environ.get("BILLING_URL"), None
    provider: CreditProvider = SimpleCreditProvider(free_uses=3)
    if url is not None:
        client = AsyncBillingClient(url, os.environ["BILLING_API_KEY"])
        provider = CIRISBillingProvider(client, agent_id="example")
    config = Config(pay_url=os.environ.get("STRIPE_PAY_URL"))
    sessions = Sessions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if client is not None:
            await client.aclose()

    app = FastAPI(title="Example agent", lifespan=lifespan)
    app.include_router(billing_router(provider, sessions.current_user))

    @app.post("/login", status_code=204)
    async def login(body: SignIn, response: Response) -> None:
        response.set_cookie("session", sessions.open(body.name), httponly=True, samesite="lax")

    @app.post("/logout", status_code=204, dependencies=[Depends(sessions.close)])
    async def logout(response: Response) -> None:
        response.delete_cookie("session", httponly=True, samesite="lax")

    @app.post("/ask", dependencies=[require_credit(provider, sessions.current_user, description="An answer")])
    async def ask(question: Question) -> Answer:
        """The agent's work. Charged after it returns, not if it raises."""
        return Answer(text=f"You said: {question.text[::-1]}")

    @app.get("/config")
    async def get_config() -> Config:
        return config

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(HERE / "page.html", headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/{asset}", include_in_schema=False)
    async def asset(asset: str) -> FileResponse:
        if asset not in ("page.js", "page.css"):
            raise HTTPException(404, "Not found")
        return FileResponse(HERE / asset)

    return app
