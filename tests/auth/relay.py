"""A stand-in for the network between a process and PostgreSQL, which can fail in quiet ways."""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

NOTIFICATION = ord("A")  # NotificationResponse in PostgreSQL's protocol


class Relay:
    """Relays TCP connections to the PostgreSQL of `database_url`, under the address `url`.

    What it does to a connection on which LISTEN was said: with `swallows_listeners` nothing passes any more, while the
    sockets stay open; with `drops_notifications` everything but notifications passes.

    With `swallows_all` nothing passes on any connection.
    """

    def __init__(self, database_url: SecretStr) -> None:
        self._target = urlsplit(database_url.get_secret_value())
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = database_url
        self.swallows_listeners = False
        self.swallows_all = False
        self.drops_notifications = False
        self.notifications_dropped = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        credentials, _, _ = self._target.netloc.rpartition("@")
        self.url = SecretStr(urlunsplit(self._target._replace(netloc=f"{credentials}@127.0.0.1:{port}")))

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        listening = asyncio.Event()
        self._tasks.add(asyncio.create_task(self._relay(reader, upstream_writer, listening, from_server=False)))
        self._tasks.add(asyncio.create_task(self._relay(upstream_reader, writer, listening, from_server=True)))

    async def _relay(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, listening: asyncio.Event, *, from_server: bool
    ) -> None:
        try:
            with suppress(ConnectionError):
                while data := await source.read(65_536):
                    if not from_server and b"LISTEN" in data:
                        listening.set()
                    if self.swallows_all or (listening.is_set() and self.swallows_listeners):
                        continue
                    if listening.is_set() and self.drops_notifications and from_server:
                        data = self._without_notifications(data)
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()

    def _without_notifications(self, data: bytes) -> bytes:
        """`data` begins and ends between messages, as what the server flushes at once does."""
        kept, at = bytearray(), 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at] == NOTIFICATION:
                self.notifications_dropped += 1
            else:
                kept += data[at:end]
            at = end
        return bytes(kept)
