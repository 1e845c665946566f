"""A new section of the configuration is one declaration: the generic code loads, validates, edits and shows it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.admin.configuration.section_routes import add_editing_routes, add_history_routes
from app.configuration.section import Document, Section
from app.configuration.sections import DEFAULTS, PACKS, SECTIONS
from app.configuration.service import Configuration
from app.errors import InvalidRequest
from app.settings import Settings
from tests.admin.conftest import DOMAIN
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop


class Badges(BaseModel):
    names: list[str] = Field(min_length=1)


class OfferedBadges(Badges):
    names: list[str] = Field(min_length=1, max_length=2)


def _require_default_plan(documents: Mapping[str, Document]) -> None:
    if documents["defaults"]["plan_name"] not in documents["badges"]["names"]:
        raise InvalidRequest("the plan of new accounts is missing", field="names")


def _from_settings(settings: Settings) -> Badges:
    return Badges(names=[settings.default_plan_name])


BADGES = Section(
    name="badges",
    document=Badges,
    offered=OfferedBadges,
    from_settings=_from_settings,
    check=_require_default_plan,
    change_description="Replace the badges.",
)


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database) as shop:
        router = APIRouter(prefix="/admin/config")
        add_editing_routes(router, [BADGES])
        add_history_routes(router, [BADGES])
        shop.app.router.routes[:0] = router.routes  # before the pages, which match every path
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


def body(version: int, *names: str) -> dict[str, Any]:
    return {"version": version, "reason": "a test", "names": list(names)}


async def test_the_document_of_the_settings_counts_until_an_admin_sets_it(shop: Shop, admin: httpx.AsyncClient) -> None:
    answer = (await admin.get("/admin/config/badges")).json()
    assert (answer["names"], answer["version"], answer["source"]) == (["free"], 0, "settings")
    configuration = Configuration(shop.db, shop.settings, sections=[*SECTIONS, BADGES])
    assert (await configuration.current()).document(BADGES) == Badges(names=["free"])
    changed = await admin.put("/admin/config/badges", json=body(0, "free", "pro"))
    assert changed.status_code == 200, changed.text
    current = await configuration.current()
    assert current.document(BADGES) == Badges(names=["free", "pro"])
    assert current.document(DEFAULTS) == current.defaults
    unaware = await Configuration(shop.db, shop.settings).current()  # as a version without the section
    assert (unaware.changes, unaware.defaults) == (1, current.defaults)
    assert {pack.name: pack for pack in current.document(PACKS).packs} == current.packs


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "at least 1 item"),  # by the document
        (["free", "pro", "max"], "at most 2 items"),  # by the stricter form of new versions
        (["pro"], "the plan of new accounts is missing"),  # beside the other sections
    ],
)
async def test_a_version_that_breaks_a_rule_is_refused(admin: httpx.AsyncClient, names: list[str], reason: str) -> None:
    answer = await admin.put("/admin/config/badges", json=body(0, *names))
    assert answer.status_code == 422
    assert reason in answer.text
    assert (await admin.get("/admin/config/badges")).json()["version"] == 0


async def test_changes_appear_in_the_history_and_the_audit_log(shop: Shop, admin: httpx.AsyncClient) -> None:
    await admin.put("/admin/config/badges", json=body(0, "free", "pro"))
    conflict = await admin.put("/admin/config/badges", json=body(0, "free"))
    assert (conflict.status_code, conflict.json()["code"]) == (409, "configuration_changed")
    assert (await admin.get("/admin/config/badges/settings")).json()["document"] == {"names": ["free"]}
    reset = await admin.post("/admin/config/badges/reset", json={"version": 1, "reason": "back"})
    assert reset.json()["versions"][0]["document"] is None
    history = (await admin.get("/admin/config/badges/versions")).json()
    assert history["section"] == "badges"
    assert [(version["version"], version["document"]) for version in history["versions"]] == [
        (2, None),
        (1, {"names": ["free", "pro"]}),
    ]
    assert {version["changed_by"] for version in history["versions"]} == {f"admin@{DOMAIN}"}
    rows = await shop.rows("SELECT target_id FROM admin_audit_log WHERE action = 'config.change' ORDER BY audit_id")
    assert [row["target_id"] for row in rows] == ["badges", "badges"]


async def test_the_routes_need_the_roles_of_every_section(shop: Shop) -> None:
    async with await sign_in(shop, "viewer") as viewer:
        assert (await viewer.get("/admin/config/badges")).status_code == 200
        assert (await viewer.put("/admin/config/badges", json=body(0, "free"))).status_code == 403


def test_the_api_describes_the_section(shop: Shop) -> None:
    described = shop.app.openapi()
    assert described["paths"]["/admin/config/badges"]["put"]["description"] == "Replace the badges."
    assert set(described["components"]["schemas"]["BadgesBody"]["properties"]) == {"names", "version", "reason"}
