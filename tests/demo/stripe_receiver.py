"""The receiver of the local Stripe's webhooks: a real server that verifies with the official SDK, and can fail."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import stripe
from fastapi import FastAPI, Request, Response

from tests.servers import serving


@dataclass
class Receiver:
    """The events received so far. `answers` are the next statuses to give; 200 once they are used up."""

    url: str = ""
    secret: str = ""
    answers: deque[int] = field(default_factory=deque)
    events: list[stripe.Event] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    async def receive(self, request: Request) -> Response:
        payload, header = await request.body(), request.headers.get("stripe-signature")
        try:
            self.events.append(stripe.Webhook.construct_event(payload, header, self.secret))
        except stripe.SignatureVerificationError as error:
            self.refused.append(str(error))
            return Response(status_code=400)
        return Response(status_code=self.answers.popleft() if self.answers else 200)

    async def wait_for(self, count: int, timeout_s: float = 10) -> None:
        """Until so many deliveries have arrived."""
        deadline = time.monotonic() + timeout_s
        while len(self.events) + len(self.refused) < count:
            assert time.monotonic() < deadline, f"{self.types} arrived, {self.refused} refused; expected {count}"
            await asyncio.sleep(0.01)


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    app = FastAPI()
    app.add_api_route("/hook", receiver.receive, methods=["POST"], response_model=None)
    with serving(app) as url:
        receiver.url = f"{url}/hook"
        yield receiver
