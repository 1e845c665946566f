"""The documentation's site: it builds without a dead link, fetches nothing from anywhere, and leaves nothing out."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

import ciris_billing
from tests.databases import ROOT

FOREIGN = re.compile(
    r"""(?:src|srcset|data-src)=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//[^>]+>|@import"""
)
IN_STYLES = re.compile(r"url\(\s*[\"']?(?:https?:)?//")
Build = Callable[[Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def mkdocs() -> Path:
    subprocess.run([ROOT / "scripts" / "environment", "docs", "docs/requirements.lock"], cwd=ROOT, check=True)
    return ROOT / ".tools" / "docs" / "bin" / "mkdocs"


def build(mkdocs: Path, project: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    """As `make docs` does."""
    command: list[str | Path] = [mkdocs, "build", "--config-file", project / "mkdocs.yml", "--site-dir", site]
    env = {"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=110)


def test_site_is_complete_and_fetches_nothing(mkdocs: Path, tmp_path: Path) -> None:
    done = build(mkdocs, ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(page.relative_to(tmp_path)): page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")}
    for name, page in pages.items():
        assert not [tag for tag in FOREIGN.findall(page) if "canonical" not in tag], name
    for style in tmp_path.rglob("*.css"):
        assert not IN_STYLES.search(style.read_text(encoding="utf-8")), style
    every_page_is_in_the_menu(pages)
    every_operation_has_an_entry(pages)
    every_public_name_has_an_entry(pages["sdk.html"])


def every_page_is_in_the_menu(pages: dict[str, str]) -> None:
    home = pages["index.html"]
    for name in set(pages) - {"404.html"}:
        assert f'href="{name}"' in home, name


def every_operation_has_an_entry(pages: dict[str, str]) -> None:
    ids = {identifier for page in pages.values() for identifier in re.findall(r'<h2 id="([^"]+)"', page)}
    for item in json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))["paths"].values():
        for operation in item.values():
            assert operation["operationId"] in ids
    assert "integer ≥ 1, ≤ 2⁶³-1" in pages["api/billing.html"]
    assert "<code>oauth:</code> and the provider's name" in html.unescape(pages["api/billing.html"])


def every_public_name_has_an_entry(reference: str) -> None:
    """Every export of `ciris_billing`, and every method of both clients, has an entry of its kind."""
    without = {"CheckContext", "FailPolicy", "Metadata"}  # shapes of arguments, shown where they are used
    for name in set(ciris_billing.__all__) - without:
        assert re.search(rf'id="ciris_billing\.(\w+\.)*{name}"', reference), name
    for client in (ciris_billing.BillingClient, ciris_billing.AsyncBillingClient):
        for name in vars(client):
            if not name.startswith("_"):
                assert re.search(rf'id="ciris_billing\.((async_)?client\.)?{client.__name__}\.{name}"', reference), name
    text = html.unescape(re.sub(r"<[^>]+>", "", reference))
    assert "Flow[" not in text
    signatures_say_how_to_make_a_client_and_what_a_reply_holds(text)


def signatures_say_how_to_make_a_client_and_what_a_reply_holds(text: str) -> None:
    for client in ("BillingClient", "AsyncBillingClient"):
        assert re.search(rf"^{client}\(\n    base_url: str,\n    api_key: str \| None = None,", text, re.M), client
    for name in ciris_billing.__all__:
        reply = getattr(ciris_billing, name)
        if isinstance(reply, type) and issubclass(reply, BaseModel):
            shown = re.search(rf"^{name}\(\s*\*,(.*?)\)$", text, re.M | re.S)
            assert shown, name
            assert re.findall(r"(\w+):", shown[1]) == list(reply.model_fields), name


def test_dead_link_fails_the_build(mkdocs: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    small = {"info": {"description": "Quickly built"}, "components": {"schemas": {}}, "paths": {}}
    (tmp_path / "openapi.json").write_text(json.dumps(small), encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "_site", tmp_path / "docs" / "_site")
    (tmp_path / "docs" / "index.md").write_text("[here](mkdocs.md) and [there](../openapi.json)", encoding="utf-8")
    done = build(mkdocs, tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "mkdocs.md" in done.stderr + done.stdout
