"""HEAD is answered as GET without a body, and no redirect is built from a request's claim about its host."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.main import ROUTERS
from app.observability.metrics import REGISTRY
from tests.conftest import running_app, settings_for
from tests.databases import Urls
from tests.raw_http import connect, read_answer
from tests.servers import Server, running_server

EVIL = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "X-Original-URL": "/"}
PAGES = ("/admin-ui/", "/admin-ui/assets/app.js", "/admin-ui/users", "/admin-ui")
OPEN = ("/", "/health", "/ready", "/v1/status", "/metrics", "/openapi.json", "/nowhere", *PAGES)
VARYING = ("date", "x-request-id")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "app.js").write_text("let pages;")
    return folder


@pytest.fixture(scope="module")
def server(database: Urls, pages: Path) -> Iterator[Server]:
    with running_server(database, env={"ADMIN_UI_DIR": str(pages), "DATABASE_TIMEOUT_S": "4"}) as server:
        yield server


@pytest.mark.parametrize("path", OPEN)
def test_head_is_answered_as_get_without_a_body(server: Server, path: str) -> None:
    get, head = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    changing = (*VARYING, "content-length") if path in ("/metrics", "/v1/status") else VARYING
    headers = [{k: v for k, v in answer.headers.items() if k not in changing} for answer in (get, head)]
    assert headers[0] == headers[1]
    # On one connection, so that a body would be taken for the next answer.
    with connect(server) as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            status = int(stream.readline().split(b" ", 2)[1])
            while stream.readline().strip():
                pass
            assert status == get.status_code
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_answer(stream).json["info"]["title"] == "CIRIS Billing"


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing", headers=EVIL)


async def test_head_is_counted_by_its_route(database: Urls) -> None:
    labels = {"method": "HEAD", "route": "/health", "status": "200"}
    name = "billing_http_request_duration_seconds_count"
    before = REGISTRY.get_sample_value(name, labels) or 0
    async with running_app(settings_for(database)) as app, client_of(app) as client:
        answer = await client.head("/health")
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head("/v1/billing/charges")).status_code == 405
        assert (await client.head("/v1/billing/transactions")).status_code == 401
    assert REGISTRY.get_sample_value(name, labels) == before + 1


EVERY_PATH = [
    (method, route.path.replace(":path", ""))
    for module in ROUTERS
    for route in module.router.routes
    if isinstance(route, APIRoute) and route.path != "/"
    for method in sorted(route.methods or ())
]


async def test_a_slash_too_many_is_404_at_every_route(database: Urls, pages: Path) -> None:
    """A redirect of the framework's goes to the host that the request names, with the caller's key."""
    async with running_app(settings_for(database, admin_ui_dir=pages)) as app, client_of(app) as client:
        assert ("POST", "/v1/billing/charges") in EVERY_PATH
        for method, path in [*EVERY_PATH, ("GET", "/openapi.json")]:
            if path.startswith(("/v1/billing/accounts/", "/v1/usage/events/", "/v1/billing/runs")):
                continue  # an identity, an event's id or a run's may end with a slash
            answer = await client.request(method, path + "/")
            assert answer.status_code in (404, 405), (method, path, answer.status_code)
            assert "location" not in answer.headers, (method, path)


async def test_no_answer_names_the_host_of_its_request(database: Urls, pages: Path) -> None:
    async with running_app(settings_for(database, admin_ui_dir=pages)) as app, client_of(app) as client:
        paths = {path for _, path in EVERY_PATH} | set(PAGES) | {"/admin", "/admin-ui//evil.example"}
        for path in sorted(paths):
            for method in ("GET", "HEAD", "POST"):
                answer = await client.request(method, path)
                assert "evil" not in answer.text + repr(answer.headers), (method, path)
        answer = await client.get("/admin-ui")
        assert (answer.status_code, answer.headers["location"]) == (308, "/admin-ui/")
