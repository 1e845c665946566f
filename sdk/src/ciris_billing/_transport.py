"""I/O of both clients: perform the steps of an operation, and settle a hold when its block ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from ciris_billing._exchange import Answer, Flow, Send, Sent
from ciris_billing._operations import Operations
from ciris_billing._wire import credential_header, keep_chunk, sending
from ciris_billing.holding import HeldWork

T = TypeVar("T")


class BlockingTransport:
    """The blocking client's I/O."""

    _api_key: str | None
    _token: Callable[[], str] | None
    _operations: Operations
    _http: httpx.Client

    def _settle(self, work: HeldWork, failure: BaseException | None) -> None:
        """Settle a hold. An error is logged, so that it does not hide the block's own."""
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
    """Settlements of holds that have not ended. The event loop keeps no reference to its tasks."""

    async def _settle(self, work: HeldWork, failure: BaseException | None) -> None:
        """Settle a hold. An error is logged, so that it does not hide the block's own. If this task is cancelled
        before the end, the settlement continues in the background, and `aclose` waits for it."""
        task = asyncio.create_task(self._settle_or_log(work, failure))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)

    async def _settle_or_log(self, work: HeldWork, failure: BaseException | None) -> None:
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
