"""Event streams through the real Caddy: nothing is buffered, and no ticket is logged."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.issuers import Issuer
from app.main import create_app
from tests.conftest import Keys, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.edge import caddy
from tests.edge.caddy import Edge, running_caddy
from tests.live.reading import opened
from tests.servers import free_port, serving

PROVIDER = "oauth:local"
ORIGIN = "https://app.example.com"


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="module")
def streaming(
    database: Urls, oidc: RunningOIDC, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Edge, Path]]:
    """Caddy before the API, and Caddy's log."""
    issuer = Issuer(issuer=oidc.issuer, jwks_url=oidc.jwks_url, audiences=[WEB.client_id], provider=PROVIDER)
    settings = settings_for(database, trusted_proxies=["127.0.0.1"], issuers=[issuer], cors_origins=[ORIGIN])
    home = tmp_path_factory.mktemp("streaming")
    with serving(create_app(settings)) as url, running_caddy([url], home) as edge:
        yield edge, home / "caddy.log"


@pytest.mark.parametrize("encoding", ["identity", "gzip, zstd"])
async def test_events_arrive_when_they_happen(streaming: tuple[Edge, Path], keys: Keys, encoding: str) -> None:
    edge, _ = streaming
    user = {"oauth_provider": PROVIDER, "external_id": uuid.uuid4().hex}
    async with edge.client(keys.agent) as client:
        account_id = (await client.post("/v1/billing/accounts", json=user)).json()["account_id"]
        path = f"/v1/billing/accounts/{account_id}/events"
        async with opened(client, path, headers={"Accept-Encoding": encoding}) as reader:
            assert reader.answer.headers["Content-Type"].startswith("text/event-stream")
            assert reader.answer.headers["Cache-Control"] == "no-store"
            first = await reader.next()
            assert first.id is not None
            for number in range(3):
                charged = await client.post("/v1/billing/charges", json={**user, "amount_minor": 100})
                assert charged.status_code == 201
                async with asyncio.timeout(2):
                    assert (await reader.next()).id == first.id + number + 1


async def test_a_ticket_works_through_the_edge_and_is_not_in_its_log(
    streaming: tuple[Edge, Path], oidc: RunningOIDC
) -> None:
    edge, log = streaming
    token = oidc.mint(sub=uuid.uuid4().hex)
    async with edge.client() as browser:
        browser.headers["Origin"] = ORIGIN
        headers = {"Authorization": f"Bearer {token}"}
        answer = await browser.post("/v1/accounts/me/tickets", headers=headers)
        ticket = answer.json()["ticket"]
        async with opened(browser, "/v1/accounts/me/events", params={"ticket": ticket}) as reader:
            assert (await reader.next()).name == "snapshot"
            assert reader.answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert ticket not in log.read_text()


async def test_a_request_in_the_edges_log_has_no_ticket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the level that logs requests, which fail here: there is no replica."""
    verbose = tmp_path / "Caddyfile"
    verbose.write_text(caddy.CADDYFILE.read_text(encoding="utf-8").replace("{\n", "{\n\tdebug\n", 1))
    monkeypatch.setattr(caddy, "CADDYFILE", verbose)
    ticket = f"tkt_{uuid.uuid4().hex}"
    with running_caddy([f"http://127.0.0.1:{free_port()}"], tmp_path) as edge:
        async with edge.client() as browser:
            answer = await browser.get("/v1/accounts/me/events", params={"ticket": ticket, "last_event_id": "7"})
    assert answer.status_code == 503
    written = (tmp_path / "caddy.log").read_text()
    assert "last_event_id=7" in written
    assert "ticket=REDACTED" in written
    assert ticket not in written
