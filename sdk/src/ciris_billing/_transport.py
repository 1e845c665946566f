"""I/O of both clients: perform the steps of an operation, and of the end of a block."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Protocol, TypeVar

import httpx

from ciris_billing._exchange import Answer, Flow, Send, Sent
from ciris_billing._following import SILENCE_S, Follower
from ciris_billing._operations import Operations
from ciris_billing._wire import credential_header, keep_chunk, sending
from ciris_billing.live import BalanceEvent

T = TypeVar("T")


class Block(Protocol):
    """A block whose end sends a request: of a hold, or of a run."""

    def leave(self, failure: BaseException | None) -> Flow[None]: ...

    def log_unsettled(self, error: Exception) -> None: ...


class BlockingTransport:
    """The blocking client's I/O."""

    _api_key: str | None
    _token: Callable[[], str] | None
    _operations: Operations
    _http: httpx.Client

    def _settle(self, work: Block, failure: BaseException | None) -> None:
        """Settle a hold, or close a run. An error is logged, so that it does not hide the block's own."""
        try:
            self._run(work.leave(failure))
        except Exception as error:
            work.log_unsettled(error)

    def _run(self, flow: Flow[T]) -> T:
        outcome: Sent | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Send):
                outcome = self._send(step)
            else:
                time.sleep(step.seconds)
                outcome = None

    def _follow(self, follower: Follower) -> Iterator[BalanceEvent]:
        """Yield the events of one connection."""
        url, headers = follower.request()
        headers |= credential_header(self._api_key, self._token() if self._token else None)
        timeout = httpx.Timeout(self._operations.exchange.timeout_s, read=SILENCE_S)
        try:
            with self._http.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=False) as response:
                if response.status_code == HTTPStatus.OK:
                    for line in response.iter_lines():
                        if (event := follower.read(line)) is not None:
                            yield event
                else:
                    content = bytearray()
                    for chunk in response.iter_bytes():
                        keep_chunk(content, chunk, late=False)
                    follower.refused(response.status_code, response.headers, bytes(content))
        except httpx.TransportError as error:
            follower.lost(error)
        except httpx.DecodingError as error:
            follower.lost(httpx.RemoteProtocolError(str(error)))

    def _send(self, step: Send) -> Sent:
        clock = self._operations.exchange.clock
        give_up_at = clock() + step.timeout_s
        headers = {**step.headers, **credential_header(self._api_key, self._token() if self._token else None)}
        reset_token = sending.set(True)
        try:
            request = self._http.build_request(
                step.method, step.url, content=step.body, headers=headers, timeout=step.timeout_s
            )
            response = self._http.send(request, stream=True, follow_redirects=False)
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    keep_chunk(content, chunk, late=clock() >= give_up_at)
            finally:
                response.close()
        except httpx.TransportError as error:
            return error
        except httpx.DecodingError as error:
            return httpx.RemoteProtocolError(str(error))
        finally:
            sending.reset(reset_token)
        return Answer(response.status_code, response.headers, bytes(content))


class AsyncTransport:
    """The async client's I/O."""

    _api_key: str | None
    _token: Callable[[], str | Awaitable[str]] | None
    _operations: Operations
    _http: httpx.AsyncClient
    _settling: set[asyncio.Task[None]]
    """Ends of blocks that are not complete. The event loop keeps no reference to its tasks."""

    async def _settle(self, work: Block, failure: BaseException | None) -> None:
        """Settle a hold, or close a run. An error is logged, so that it does not hide the block's own. If this task is
        cancelled before the end, that continues in the background, and `aclose` waits for it."""
        task = asyncio.create_task(self._settle_or_log(work, failure))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)

    async def _settle_or_log(self, work: Block, failure: BaseException | None) -> None:
        try:
            await self._run(work.leave(failure))
        except Exception as error:
            work.log_unsettled(error)

    async def _run(self, flow: Flow[T]) -> T:
        outcome: Sent | None = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(step, Send):
                outcome = await self._send(step)
            else:
                await asyncio.sleep(step.seconds)
                outcome = None

    async def _follow(self, follower: Follower) -> AsyncGenerator[BalanceEvent]:
        """Yield the events of one connection."""
        token = self._token() if self._token else None
        if token is not None and not isinstance(token, str):
            token = await token
        url, headers = follower.request()
        headers |= credential_header(self._api_key, token)
        timeout = httpx.Timeout(self._operations.exchange.timeout_s, read=SILENCE_S)
        try:
            async with self._http.stream(
                "GET", url, headers=headers, timeout=timeout, follow_redirects=False
            ) as response:
                if response.status_code == HTTPStatus.OK:
                    async for line in response.aiter_lines():
                        if (event := follower.read(line)) is not None:
                            yield event
                else:
                    content = bytearray()
                    async for chunk in response.aiter_bytes():
                        keep_chunk(content, chunk, late=False)
                    follower.refused(response.status_code, response.headers, bytes(content))
        except httpx.TransportError as error:
            follower.lost(error)
        except httpx.DecodingError as error:
            follower.lost(httpx.RemoteProtocolError(str(error)))

    async def _send(self, step: Send) -> Sent:
        token = self._token() if self._token else None
        if token is not None and not isinstance(token, str):
            token = await token
        headers = {**step.headers, **credential_header(self._api_key, token)}
        reset_token = sending.set(True)
        try:
            async with asyncio.timeout(step.timeout_s):
                request = self._http.build_request(
                    step.method, step.url, content=step.body, headers=headers, timeout=step.timeout_s
                )
                response = await self._http.send(request, stream=True, follow_redirects=False)
                try:
                    content = bytearray()
                    async for chunk in response.aiter_bytes():
                        keep_chunk(content, chunk, late=False)
                finally:
                    await response.aclose()
        except TimeoutError:
            return httpx.ReadTimeout("no complete answer in time")
        except httpx.TransportError as error:
            return error
        except httpx.DecodingError as error:
            return httpx.RemoteProtocolError(str(error))
        finally:
            sending.reset(reset_token)
        return Answer(response.status_code, response.headers, bytes(content))
