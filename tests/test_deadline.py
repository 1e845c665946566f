"""A request that takes too long is answered while its caller still listens."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.id_tokens.jwks import JWKSCache
from app.configuration.service import Configuration
from app.db import Database
from app.http.external_waits import waiting_for
from app.http.middleware import Deadline
from app.payments.errors import PaymentNotFound, PaymentProviderFailed, PaymentProviderUnavailable
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings
from tests.auth.conftest import until

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def requested(app: ASGIApp, timeout_s: float = 0.02) -> tuple["asyncio.Task[None]", list[Message]]:
    """The request under way, and the messages that its caller receives."""
    heard: list[Message] = []

    async def send(message: Message) -> None:
        heard.append(message)

    async def ask() -> None:
        await Deadline(app, timeout_s=timeout_s)(SCOPE, receive, send)

    return asyncio.create_task(ask()), heard


def statuses(heard: list[Message]) -> list[int]:
    return [message["status"] for message in heard if message["type"] == "http.response.start"]


def ended(heard: list[Message]) -> Callable[[], bool]:
    return lambda: any(m["type"] == "http.response.body" and not m.get("more_body") for m in heard)


async def test_the_caller_does_not_wait_for_what_cannot_be_ended() -> None:
    """A connection in a black hole, say, that is to be given back in good order."""
    may_end = asyncio.Event()

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
            await PlainTextResponse("too late")(scope, receive, send)

    task, heard = requested(stuck)
    await until(ended(heard))
    assert (statuses(heard), task.done()) == ([503], False)
    may_end.set()
    await task
    assert statuses(heard) == [503]


async def test_what_goes_wrong_while_it_is_ended_is_no_second_answer() -> None:
    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the rollback failed") from None

    task, heard = requested(stuck)
    await task
    assert statuses(heard) == [503]
    assert ended(heard)()


async def test_an_answer_that_has_begun_may_take_its_time() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b""})

    task, heard = requested(slow)
    await task
    assert statuses(heard) == [200]
    assert ended(heard)()


async def test_whoever_ends_a_request_in_time_ends_it() -> None:
    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    task, heard = requested(stuck, timeout_s=60)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == []


async def test_an_error_of_its_own_passes() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError

    task, heard = requested(broken)
    with pytest.raises(ValueError):
        await task
    assert heard == []


async def stripe_waits(gateway: StripeGateway) -> None:
    await gateway.answer(asyncio.Event().wait())


async def issuer_waits(gateway: StripeGateway) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
        keys = JWKSCache("https://issuer.test/keys", http)
        try:
            await keys.find("kid", "RS256", datetime.now(UTC))
        finally:
            await keys.aclose()


async def stripe_failed(_: StripeGateway) -> None:
    with pytest.raises(PaymentProviderUnavailable), waiting_for(PaymentProviderUnavailable()):
        raise PaymentProviderFailed
    await asyncio.Event().wait()


async def stripe_refused(_: StripeGateway) -> None:
    with pytest.raises(PaymentNotFound), waiting_for(PaymentProviderUnavailable()):
        raise PaymentNotFound
    await asyncio.Event().wait()


async def stripe_answered_after_a_failure(_: StripeGateway) -> None:
    with pytest.raises(PaymentProviderUnavailable), waiting_for(PaymentProviderUnavailable()):
        raise PaymentProviderUnavailable
    with waiting_for(PaymentProviderUnavailable()):
        await asyncio.sleep(0)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (stripe_waits, "payment_provider_unavailable"),
        (issuer_waits, "issuer_unavailable"),
        (stripe_failed, "payment_provider_unavailable"),
        (stripe_refused, "busy"),
        (stripe_answered_after_a_failure, "busy"),
    ],
)
async def test_the_server_that_did_not_answer_is_named(
    db: Database, settings: Settings, call: Callable[[StripeGateway], Awaitable[None]], code: str
) -> None:
    gateway = StripeGateway(settings, Configuration(db, settings))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await call(gateway)

    task, heard = requested(app)
    await task
    assert statuses(heard) == [503]
    assert json.loads(heard[-1]["body"])["code"] == code


async def test_a_call_of_an_earlier_request_on_the_connection_is_not_named() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def failed_before() -> None:
        with pytest.raises(PaymentProviderUnavailable), waiting_for(PaymentProviderUnavailable()):
            raise PaymentProviderUnavailable
        await asyncio.sleep(0.001)
        await Deadline(app, timeout_s=0.02)(SCOPE, receive, send)

    heard: list[Message] = []

    async def send(message: Message) -> None:
        heard.append(message)

    await asyncio.create_task(failed_before())
    assert json.loads(heard[-1]["body"])["code"] == "busy"
