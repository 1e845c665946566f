"""The real Caddy with the project's Caddyfile, as a process."""

import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.databases import ROOT
from tests.servers import START_TIMEOUT_S, free_port

CADDY = Path(sys.executable).parent / "caddy"
CADDYFILE = ROOT / "Caddyfile"
SITE = "localhost"


@dataclass(frozen=True)
class Edge:
    """A running Caddy: where it listens, and the certificate of the CA that signed its own."""

    port: int
    http_port: int
    root_certificate: Path

    @property
    def url(self) -> str:
        return f"https://{SITE}:{self.port}"

    def tls(self, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
        """Return a client's trust store, with the certificate that it presents if it has one."""
        context = ssl.create_default_context(cafile=str(self.root_certificate))
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        return context

    def client(
        self, key: str | None = None, *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> httpx.AsyncClient:
        """A client that calls from `address`, of this machine."""

        async def name_the_site(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = SITE

        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=tls or self.tls(), local_address=address),
            base_url=f"https://127.0.0.1:{self.port}",  # the addresses that it calls from are of this family
            headers={"Host": f"{SITE}:{self.port}", **({} if key is None else {"X-API-Key": key})},
            event_hooks={"request": [name_the_site]},
            timeout=10,
        )


@contextlib.contextmanager
def running_caddy(upstreams: list[str], home: Path, env: Mapping[str, str] | None = None) -> Iterator[Edge]:
    """Run Caddy in front of `upstreams` (URLs), with its state in `home`; stop it by pid afterwards."""
    edge = Edge(free_port(), free_port(), home / "caddy/pki/authorities/local/root.crt")
    variables = {
        "SITE_ADDRESS": SITE,
        "HTTP_PORT": str(edge.http_port),
        "HTTPS_PORT": str(edge.port),
        "API_UPSTREAMS": " ".join(urlsplit(url).netloc for url in upstreams),
        "XDG_DATA_HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
    }
    log = (home / "caddy.log").open("ab")
    process = subprocess.Popen(
        [CADDY, "run", "--config", CADDYFILE],
        env={**os.environ, **variables, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    try:
        _wait_for(edge, process, home / "caddy.log")
        yield edge
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()  # it grants its clients more time than a test has
            process.wait()
        log.close()


def _wait_for(edge: Edge, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if edge.root_certificate.exists():
            with contextlib.suppress(httpx.TransportError), httpx.Client(verify=edge.tls()) as client:
                client.get(f"{edge.url}/nowhere")
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())
