"""HTTP/1.1 by hand, over a socket: requests that no client library sends."""

import contextlib
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.servers import Server


def connect(server: Server | str) -> socket.socket:
    address = urlsplit(server if isinstance(server, str) else server.url)
    return socket.create_connection((address.hostname, address.port or 0), timeout=10)


def exchange(server: Server | str, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Send the parts one by one; return everything received until the server closed, or was silent for 0.5 s."""
    with connect(server) as connection, contextlib.suppress(ConnectionError):
        with contextlib.suppress(ConnectionError):  # the server may answer and close before it has read everything
            for part in parts:
                connection.sendall(part)
                time.sleep(pause_s)
        came = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while more := connection.recv(65_536):
                came += more
                connection.settimeout(0.5)
        return came
    return b""


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: billing", b"Content-Type: application/json", *headers]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(server: Server | str, request: bytes) -> Answer:
    """Send one request and read its one answer, whose length must be declared."""
    with connect(server) as connection, connection.makefile("rb") as stream:
        connection.sendall(request)
        return read_answer(stream)


def read_answer(stream: Any) -> Answer:
    status = int(stream.readline().split(b" ", 2)[1])
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(": ")
        headers[name.lower()] = value
    return Answer(status, headers, stream.read(int(headers.get("content-length", "0"))))
