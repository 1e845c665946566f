"""TLS before the tests' PostgreSQL, whose binaries are built without it: the handshake of its protocol."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass

from tests.certificates import Authority, Pair

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")


@dataclass(frozen=True)
class Seen:
    """A connection that got as far as its first message. `subject`: of the certificate that the client showed."""

    encrypted: bool
    subject: str | None


class TlsProxy:
    """Takes plain and encrypted connections, on all addresses of this machine's loopback that `localhost` may mean."""

    def __init__(self, target: tuple[str, int], server: Pair, clients: Authority) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients.certificate))
        self._context.load_cert_chain(server.certificate, server.key)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.seen: list[Seen] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted = False
        while (head := await reader.readexactly(8)) in (SSL_REQUEST, GSS_REQUEST):
            encrypted = head == SSL_REQUEST
            writer.write(b"S" if encrypted else b"N")
            await writer.drain()
            if encrypted:
                await writer.start_tls(self._context)
        certificate = writer.get_extra_info("peercert") or {}
        names = dict(attribute for part in certificate.get("subject", ()) for attribute in part)
        self.seen.append(Seen(encrypted, names.get("commonName")))
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        upstream_writer.write(head)
        try:
            await asyncio.gather(_pump(reader, upstream_writer), _pump(upstream_reader, writer))
        finally:
            upstream_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()
