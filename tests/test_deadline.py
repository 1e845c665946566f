"""A request that takes too long is answered while its caller still listens."""

import asyncio
from collections.abc import Callable

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.middleware import Deadline
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
