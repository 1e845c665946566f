"""The API's server: drains on shutdown, so that no request is cut off."""

import asyncio
import signal
from socket import socket
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import multiprocess

from app.http.protocol import LoadSheddingProtocol

IN_FLIGHT_TIMEOUT_S = 20
KEEP_ALIVE_S = 75  # longer than proxies: they close first, so no request arrives at a closed connection
WORKER_SILENCE_S = 60  # an unresponsive process is replaced then; starting on a busy machine takes a while
ACCEPTS_PER_TURN = 64
CLOSE = (b"connection", b"close")
log = structlog.get_logger()


class Config(uvicorn.Config):
    """The service's uvicorn configuration."""

    def __init__(self, *, host: str, port: int, workers: int, drain_s: float) -> None:
        super().__init__(
            "app.cli:create_served_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            http=LoadSheddingProtocol,
            access_log=False,
            log_config=None,
            proxy_headers=False,  # app.auth decides which proxies to trust, by TRUSTED_PROXIES
            server_header=False,
            timeout_graceful_shutdown=IN_FLIGHT_TIMEOUT_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_worker_healthcheck=WORKER_SILENCE_S,
        )
        self.drain_s = drain_s


class DrainingServer(uvicorn.Server):
    """Drains on SIGTERM: continues for `drain_s` seconds, while `/ready` answers 503 and each answer closes its
    connection, so that load balancers stop sending requests before the port closes. Then it finishes the requests in
    flight. SIGINT, or a second SIGTERM, ends the waiting. The process exits with 0.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._drain_s = config.drain_s
        self._was_terminated = False
        self._ends_at_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not passed to uvicorn, which would raise the signal again at the end, although it has been handled.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif sig == signal.SIGTERM and not self._was_terminated:
            self._was_terminated = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        now_s = asyncio.get_running_loop().time()
        if self._was_terminated and self._ends_at_s is None:
            self._ends_at_s = now_s + self._drain_s
            self._begin_draining()
        if self._ends_at_s is not None and now_s >= self._ends_at_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._mark_draining()  # SIGINT comes here without a drain: event streams must end as well
        await super().shutdown(sockets)

    def _mark_draining(self) -> None:
        api = self.config.loaded_app
        assert isinstance(api, FastAPI)
        api.state.draining = True

    def _begin_draining(self) -> None:
        log.info("draining", drain_s=self._drain_s)
        self._mark_draining()
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]


class DrainingProcess(multiprocess.Process):
    """One of several processes that share a port."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            assert isinstance(self.config, Config)
            self._server = DrainingServer(self.config)
        return self._server


def listeners(bound: socket) -> list[socket]:
    """Return the socket and duplicates of it, which share its queue of connections that wait to be accepted.

    libuv accepts one connection per socket in each turn of its loop. A turn is long while many requests are in flight:
    with one socket, new callers would wait in the queue past their time-outs, neither served nor rejected.
    """
    return [bound, *(bound.dup() for _ in range(ACCEPTS_PER_TURN - 1))]


def serve_api(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    sockets = listeners(config.bind_socket())
    if config.workers == 1:
        DrainingServer(config).run(sockets)
    else:
        vars(multiprocess)["Process"] = DrainingProcess  # uvicorn has no option for its process class
        multiprocess.Multiprocess(config, sockets=sockets).run()
