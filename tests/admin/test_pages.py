"""The back office's pages: served as built, every address of the application leading to it, under a strict policy."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Mode
from tests.conftest import settings_for
from tests.databases import Urls

INDEX = "<!doctype html><title>CIRIS Billing</title>"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "dist" / "assets").mkdir(parents=True)
    (tmp_path / "dist" / "index.html").write_text(INDEX, encoding="utf-8")
    (tmp_path / "dist" / "assets" / "index-1a2b.js").write_text("go()", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("not to be served", encoding="utf-8")
    return tmp_path / "dist"


@pytest.fixture
async def browser(built: Path, database: Urls) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(settings_for(database, admin_ui_dir=built)))
    async with httpx.AsyncClient(transport=transport, base_url="http://billing") as browser:
        yield browser


@pytest.mark.parametrize("path", ["", "index.html", "users", "users/01a1fd54-0000-7000-8000-000000000000", "a/b?c=d"])
async def test_every_address_of_the_application_leads_to_it(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(f"/admin-ui/{path}")
    assert (answer.status_code, answer.text, answer.headers["Cache-Control"]) == (200, INDEX, "no-cache")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_files_are_kept_for_ever_and_missing_ones_are_404(browser: httpx.AsyncClient) -> None:
    script = await browser.get("/admin-ui/assets/index-1a2b.js")
    assert (script.text, script.headers["Cache-Control"]) == ("go()", "public, max-age=31536000, immutable")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert (await browser.get("/admin-ui/assets/index-old.js")).status_code == 404
    assert (await browser.get("/admin-ui", follow_redirects=True)).text == INDEX


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "assets/../../secret.txt"])
async def test_nothing_outside_is_served(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(f"/admin-ui/{path}")
    assert "not to be served" not in answer.text


async def test_pages_that_are_not_built_say_so(database: Urls, tmp_path: Path) -> None:
    transport = httpx.ASGITransport(create_app(settings_for(database, admin_ui_dir=tmp_path / "nothing")))
    async with httpx.AsyncClient(transport=transport, base_url="http://billing") as browser:
        answer = await browser.get("/admin-ui/users")
    assert answer.status_code == 404
    assert "make ui" in answer.text


async def test_pages_that_the_demo_builds_are_waited_for(database: Urls, tmp_path: Path) -> None:
    """The link that `make run` prints leads to a page that reloads until the real one is there."""
    directory = tmp_path / "dist"
    app = create_app(settings_for(database, mode=Mode.DEMO, admin_ui_dir=directory))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing") as browser:
        waiting = await browser.get("/admin-ui/users")
        assert (waiting.status_code, waiting.headers["Retry-After"]) == (503, "2")
        assert waiting.headers["Content-Type"].startswith("text/html")
        assert waiting.headers["Cache-Control"] == "no-store"
        assert '<meta http-equiv="refresh" content="2">' in waiting.text
        assert (await browser.get("/admin-ui/assets/index-old.js")).status_code == 404
        directory.mkdir()
        (directory / "index.html").write_text(INDEX, encoding="utf-8")
        assert (await browser.get("/admin-ui/users")).text == INDEX
