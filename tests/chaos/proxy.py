"""Stand-ins for the network between a process and what it depends on, which can fail in loud and in quiet ways."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

CHUNK_BYTES = 65_536
CommitMessage = Literal["request", "answer"]
NOTIFICATION = ord("A")  # NotificationResponse in PostgreSQL's protocol


@dataclass(eq=False)
class Connection:
    """One caller's connection and the one behind it. `server_bytes`: how much more of the answers may pass."""

    writers: list[asyncio.StreamWriter]
    server_bytes: int | None
    listening: bool = field(default=False)

    def reset(self) -> None:
        """End both sides by RST, not by a farewell."""
        for writer in self.writers:
            sock: socket.socket | None = writer.get_extra_info("socket")
            with suppress(OSError, ValueError):  # which uvloop says of one that is closed
                if sock is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Relays TCP connections to `target`, from a separate port. Faults:

    - `latency_s`: each piece of data takes so much longer, in either direction;
    - `black_hole()`: no data passes and no one is notified, new connections included, until `heal()`;
    - `refuses`: new connections are reset at once;
    - `cut_after(n)`: each connection is reset when its server has sent `n` more bytes;
    - `reset_all()`: every connection is reset now.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.latency_s = 0.0
        self.refuses = False
        self.accepted = 0
        """How many connections there were, those included that were refused."""
        self.cut = 0
        """How many were reset because of `cut_after`."""
        self._cut_after_bytes: int | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        self.reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def black_hole(self) -> None:
        self._passing.clear()

    def cut_after(self, server_bytes: int) -> None:
        self._cut_after_bytes = server_bytes
        for connection in self._connections:
            connection.server_bytes = server_bytes

    def reset_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def heal(self) -> None:
        """End all faults. The data that a black hole held back arrives now, as after a retransmission."""
        self.latency_s, self.refuses, self._cut_after_bytes = 0.0, False, None
        for connection in self._connections:
            connection.server_bytes = None
        self._passing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection([writer], self._cut_after_bytes)
        self.accepted += 1
        if self.refuses:
            connection.reset()
            return
        self._connections.add(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._passing.wait()
            upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
            connection.writers.append(upstream_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, reader, upstream_writer, from_server=False))
                both.create_task(self._pump(connection, upstream_reader, writer, from_server=True))
        except* (OSError, RuntimeError):
            connection.reset()  # the far side is dead: so is this one
        except* asyncio.CancelledError:
            pass  # by `stop`, which waits for the end; asyncio's streams would complain of a handler that was cancelled
        finally:
            for each in connection.writers:
                each.close()
            self._connections.discard(connection)
            self._tasks.discard(task)

    async def _pump(
        self, connection: Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        while data := await source.read(CHUNK_BYTES):
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            await self._passing.wait()
            passed = self.passed(connection, data, from_server=from_server)
            left = connection.server_bytes if from_server else None
            if left is not None:
                passed = passed[:left]
                connection.server_bytes = left - len(passed)
            sink.write(passed)
            await sink.drain()
            if left is not None and left <= len(data):
                self.cut += 1
                raise ConnectionResetError("cut")
        # The other direction may be closed already; uvloop raises a different error.
        with suppress(OSError, RuntimeError):
            sink.write_eof()

    def passed(self, connection: Connection, data: bytes, *, from_server: bool) -> bytes:
        """Return the bytes to forward of a received piece of data."""
        return data


class PostgresProxy(Proxy):
    """A proxy before the PostgreSQL of `database_url`, under the address `url`.

    Two more faults, for connections that have sent LISTEN: with `swallows_listeners` no data passes,
    while the sockets stay open; with `drops_notifications` everything but notifications passes.
    """

    def __init__(self, database_url: SecretStr) -> None:
        self._database_url = urlsplit(database_url.get_secret_value())
        super().__init__(self._database_url.hostname or "127.0.0.1", self._database_url.port or 5432)
        self.swallows_listeners = False
        self.drops_notifications = False
        self.notifications_dropped = 0

    @property
    def url(self) -> SecretStr:
        return self.url_of(SecretStr(urlunsplit(self._database_url)))

    def url_of(self, database_url: SecretStr) -> SecretStr:
        """Another role's or database's address, by way of this proxy."""
        parts = urlsplit(database_url.get_secret_value())
        credentials, _, _ = parts.netloc.rpartition("@")
        return SecretStr(urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}")))

    def passed(self, connection: Connection, data: bytes, *, from_server: bool) -> bytes:
        if not from_server and b"LISTEN" in data:
            connection.listening = True
        if not connection.listening:
            return data
        if self.swallows_listeners:
            return b""
        return self._without_notifications(data) if self.drops_notifications and from_server else data

    def _without_notifications(self, data: bytes) -> bytes:
        """Remove notifications. `data` begins and ends between messages, as each flush of the server does."""
        kept, at = bytearray(), 0
        while at < len(data):
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            if data[at] == NOTIFICATION:
                self.notifications_dropped += 1
            else:
                kept += data[at:end]
            at = end
        return bytes(kept)


class CommitCutter(PostgresProxy):
    """Resets the connection of the next COMMIT: before it reaches PostgreSQL, or before its answer comes back."""

    _cuts: CommitMessage | None = None

    def cut_next(self, message: CommitMessage) -> None:
        self._cuts = message

    @property
    def has_cut(self) -> bool:
        return self._cuts is None

    def passed(self, connection: Connection, data: bytes, *, from_server: bool) -> bytes:
        message: CommitMessage = "answer" if from_server else "request"
        if message == self._cuts and b"COMMIT" in data:
            self._cuts = None
            raise ConnectionResetError("cut")
        return super().passed(connection, data, from_server=from_server)
