"""The local OpenID provider as tests use it: a real server on a free port, steered over HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from app.demo.oidc import Client, User, create_app

WEB = Client(
    "web-client", "web-secret:with%odd+characters", ("http://127.0.0.1/callback", "http://127.0.0.1/other?x=1")
)
SPA = Client("spa-client", None, ("http://127.0.0.1/spa",))
ALICE = User(
    "alice-sub", "alice@example.com", "Alice Example", hd="example.com", picture="https://example.com/alice.png"
)
BOB = User("bob-sub", "bob@mail.example", "Bob <script>", email_verified=False)


@dataclass(frozen=True, slots=True)
class RunningOIDC:
    """A running provider. Its methods are plain blocking HTTP: the server has a separate thread and loop."""

    issuer: str
    port: int
    http: httpx.Client

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/jwks"

    def switch(self, **changes: Any) -> None:
        self.http.patch("/_control/switches", json=changes).raise_for_status()

    def reset(self) -> None:
        self.http.post("/_control/reset").raise_for_status()

    def requests(self, endpoint: str) -> int:
        """How often `jwks` or `token` was asked since the last reset."""
        counts: dict[str, int] = self.http.get("/_control").raise_for_status().json()["requests"]
        return counts.get(endpoint, 0)

    def rotate_keys(self, *, keep_old: bool) -> list[dict[str, Any]]:
        answer = self.http.post("/_control/rotate-keys", params={"keep_old": keep_old}).raise_for_status()
        keys: list[dict[str, Any]] = answer.json()["keys"]
        return keys

    def published_keys(self) -> list[dict[str, Any]]:
        """The JWKS, read without the misbehaviour that a switch may ask for (and outside of the counts)."""
        self.reset()
        keys: list[dict[str, Any]] = self.http.get("/jwks").raise_for_status().json()["keys"]
        self.reset()
        return keys

    def mint(self, **claims: Any) -> str:
        """An ID token for Alice and the web client, with `faults` and other claims as given."""
        return self.http.post("/_control/id-token", params={"raw": True}, json=claims).raise_for_status().text

    def sign(self, payload: str, **header: Any) -> str:
        """Exactly this payload under a real signature."""
        body = {"header": header, "payload": payload}
        return self.http.post("/_control/sign", json=body).raise_for_status().text


@contextmanager
def running_oidc(*, port: int = 0, state_path: Path | None = None) -> Iterator[RunningOIDC]:
    """A provider with the clients WEB and SPA and the users ALICE and BOB, listening until the block ends."""
    listener = socket.create_server(("127.0.0.1", port))
    port = listener.getsockname()[1]
    issuer = f"http://127.0.0.1:{port}"
    app = create_app(issuer=issuer, clients=[WEB, SPA], users=[ALICE, BOB], state_path=state_path)
    config = uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert thread.is_alive(), "the provider ended before it listened"
            assert time.monotonic() < deadline, "the provider does not listen"
            time.sleep(0.01)
        with httpx.Client(base_url=issuer, timeout=10, trust_env=False) as http:
            yield RunningOIDC(issuer, port, http)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive(), "the provider does not end"
