"""The page of docs/live-balance.md in a real browser, on another origin: tickets, and streams one after the other."""

import contextlib
import json
import os
import re
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.databases import ROOT, Urls
from tests.live.conftest import new_account
from tests.live.reading import until
from tests.servers import running_server
from tests.support.browser import CHROMIUM

SCRIPT = re.search(r"```js\n(.*?)```", (ROOT / "docs/live-balance.md").read_text(encoding="utf-8"), re.DOTALL)


class Site:
    """A web app: its one page, and the balances that the page has shown."""

    def __init__(self) -> None:
        self.page = ""
        self.shown: list[dict[str, Any]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(site.page.encode())

            def do_POST(self) -> None:
                site.shown.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"")

            def _answer(self, content: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, daemon=True)
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The browser's folder, where there is a browser."""
    if not Path(CHROMIUM).exists():
        assert "REQUIRE_BROWSER" not in os.environ, "missing: Chromium"
        pytest.skip("needs Chromium; REQUIRE_BROWSER=1 makes this a failure")
    return tmp_path


@contextlib.contextmanager
def showing(url: str, home: Path) -> Iterator[None]:
    """A browser that shows the page."""
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", url]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(20)


async def test_the_documented_page_shows_every_change_over_several_streams(
    books: Urls, key: str, issuer_settings: dict[str, str], token_of: Callable[..., str], site: Site, home: Path
) -> None:
    assert SCRIPT is not None
    env = {**issuer_settings, "CORS_ORIGINS": json.dumps([site.origin]), "EVENT_STREAM_LIFETIME_S": "2"}
    with running_server(books, env=env) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
            account = await new_account(client)
            told = f"const BILLING_URL = {json.dumps(server.url)}, TOKEN = {json.dumps(token_of(account.user_id))};"
            show = 'follow((shown) => fetch("/shown", {method: "POST", body: JSON.stringify(shown)}), () => TOKEN);'
            site.page = f"<!doctype html><script>{told}\n{SCRIPT[1]}\n{show}</script>"

            def tickets() -> int:
                return server.printed().count('"route": "/v1/accounts/me/tickets", "status": 201')

            async def shows(entry_no: int) -> bool:
                return any(balance["entry_no"] == entry_no for balance in site.shown)

            with showing(site.origin, home):
                for entry_no in (2, 3, 4):
                    await until(partial(shows, entry_no))
                    used = tickets()

                    async def has_another(used: int = used) -> bool:
                        return tickets() > used

                    await until(has_another)  # the stream has ended: the next one shows the change
                    await account.charge(idempotency_key=uuid.uuid4().hex)
                await until(partial(shows, 5))
            assert {balance["account_id"] for balance in site.shown} == {account.account_id}
