"""Price books in the back office: proposals, differences, decisions, activation, and what a call would cost."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.pricing.compiled import UnknownModel
from app.pricing.editing import Author, activate, propose
from app.pricing.unknown_models import UnknownModels
from tests.admin.conftest import Office
from tests.live.reading import until
from tests.pricing.books import document, row

NOW = datetime.now(UTC)
OTHER = {"source": "other", "source_version": "2", "tariff": {"prices": {"input_uncached": "2", "output_text": "2"}}}
DISPUTED = row(id="p/m", model="m", aliases=["m-1"], status="disputed", source="first", others=[OTHER])
WHY = {"reason": "because"}


async def proposed(office: Office, **fields: Any) -> int:
    async with office.db.transaction() as tx:
        return await propose(tx, document(**fields), Author("tests", None, "because", NOW))


async def put_in_force(office: Office, **fields: Any) -> int:
    """Put a new version in force, and wait until the application knows."""
    version = await proposed(office, **fields)
    async with office.db.transaction() as tx:
        await activate(tx, version, datetime.now(UTC), Author("tests", None, "because", datetime.now(UTC)))

    async def known() -> bool:
        book = await office.app.state.price_books.current("USD", datetime.now(UTC))
        return book is not None and book.version == version

    await until(known)
    return version


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(f"/admin{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(f"/admin{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def state_of(client: httpx.AsyncClient, version: int) -> str:
    return str((await get(client, f"/price-books/{version}"))["state"])


async def test_a_disputed_row_is_decided_and_put_in_force(office: Office, admin: httpx.AsyncClient) -> None:
    first = await put_in_force(office, llm=[row(id="p/m", model="m", source="first")])
    version = await proposed(office, llm=[DISPUTED, row(id="b", model="b")])
    found = await get(admin, f"/price-books/{version}")
    assert (found["state"], found["rows"]) == ("proposed", {"disputed": 1, "confirmed": 1})
    disputed = await get(admin, f"/price-books/{version}/rows", status="disputed")
    assert (disputed["total"], disputed["rows"][0]["id"]) == (1, "p/m")
    assert disputed["rows"][0]["others"][0]["tariff"]["prices"]["input_uncached"] == "2"
    choices = [{"row": "p/m", "source": "other"}]
    confirmed = await post(admin, f"/price-books/{version}/confirm", **WHY, choices=choices)
    assert (confirmed["based_on"], confirmed["rows"]) == (version, {"confirmed": 2})
    difference = await get(admin, f"/price-books/{confirmed['version']}/difference")
    assert (difference["before"], difference["added"], difference["changed"]) == (first, 1, 3)
    activated = await post(admin, f"/price-books/{confirmed['version']}/activate", **WHY, seen_in_force=first)
    assert (activated["state"], activated["activated_by"][:5]) == ("in_force", "admin")
    assert [await state_of(admin, each) for each in (first, version)] == ["replaced", "proposed"]
    decided = (await office.audit("price_book.confirm"))[-1]
    assert (decided["target_id"], decided["reason"]) == (str(version), "because")
    in_force = (await office.audit("price_book.activate"))[-1]
    assert (in_force["target_id"], in_force["reason"]) == (str(confirmed["version"]), "because")


async def test_an_activation_names_what_the_admin_saw(office: Office, admin: httpx.AsyncClient) -> None:
    seen, newer, mine = [await put_in_force(office), await put_in_force(office), await proposed(office)]
    audited = len(await office.audit("price_book.activate"))
    stale = await admin.post(f"/admin/price-books/{mine}/activate", json={**WHY, "seen_in_force": seen})
    assert (stale.status_code, stale.json()["code"]) == (409, "changed_meanwhile")
    assert (stale.json()["current"], stale.json()["changed_by"]) == ({"in_force": newer}, "tests")
    assert await state_of(admin, mine) == "proposed"
    assert len(await office.audit("price_book.activate")) == audited
    later = (NOW + timedelta(days=3)).isoformat()
    scheduled = await post(admin, f"/price-books/{mine}/activate", **WHY, seen_in_force=newer, effective_at=later)
    assert scheduled["state"] == "scheduled"
    assert await state_of(admin, newer) == "in_force"


async def test_the_shipped_data_is_imported_once(office: Office, admin: httpx.AsyncClient) -> None:
    await put_in_force(office, markups=[{"id": "plus", "percent": "20"}])
    made = await post(admin, "/price-books/import", **WHY)
    assert await post(admin, "/price-books/import", **WHY) == made  # no second proposal of the same
    found = await get(admin, f"/price-books/{made['version']}")
    assert found["rows"]["agreed"] > 200
    assert found["document"]["markups"][0]["id"] == "plus"
    assert "llm" not in found["document"]
    page = await get(admin, f"/price-books/{made['version']}/difference", limit=200)
    assert (page["next_cursor"], len(page["changes"])) == (200, 200)
    following = await get(admin, f"/price-books/{made['version']}/difference", limit=200, cursor=200)
    assert not {change["row"] for change in following["changes"]} & {change["row"] for change in page["changes"]} - {""}
    rows = await get(admin, f"/price-books/{made['version']}/rows", provider="OpenAI", q="GPT-4o-mini", limit=1)
    assert rows["total"] >= len(rows["rows"]) == 1
    assert rows["rows"][0]["provider"] == "openai"
    await post(admin, f"/price-books/{made['version']}/activate", **WHY)
    assert await post(admin, "/price-books/import", **WHY) == {"version": None}
    assert [entry["target_id"] for entry in await office.audit("price_book.propose")] == [str(made["version"])]


async def test_versions_are_listed_in_pages(office: Office, viewer: httpx.AsyncClient) -> None:
    made = [await proposed(office) for _ in range(3)]
    first = await get(viewer, "/price-books", limit=2)
    assert [book["version"] for book in first["price_books"]] == made[:0:-1]
    following = await get(viewer, "/price-books", limit=1, cursor=first["next_cursor"])
    assert [book["version"] for book in following["price_books"]] == made[:1]


CALL = {"provider": "openai", "model": "gpt", "tokens": {"input_uncached": 2_000, "output_text": 1_000}}


@pytest.mark.parametrize(
    ("usage", "more", "cost", "problem"),
    [
        ({"meter": "llm_tokens", **CALL}, {}, 3_600_000, None),
        ({"meter": "llm_tokens", **CALL}, {"plan": "free"}, 0, None),
        ({"meter": "llm_tokens", **CALL, "mode": "priority"}, {}, None, "no_price_for_mode: priority"),
        ({"meter": "llm_tokens", **CALL, "model": "new"}, {}, None, "no_row"),
        ({"meter": "llm_tokens", **CALL}, {"at": "2026-01-01T00:00:00Z"}, None, "not_yet_valid"),
        ({"meter": "compute", "cpu_hours": "0.5", "memory_gb_hours": 1}, {}, 50_000_000, None),
        ({"meter": "api_calls", "endpoint": "/x", "count": 2}, {"month_quantity": 9_999}, 12_140_000, None),
        ({"meter": "tool_calls", "tool": "search"}, {}, None, "no_row: tool_calls"),
        ({"meter": "custom", "name": "storage", "quantity": "1.5"}, {}, 150_000_000, None),
        (
            {"meter": "llm_tokens", **CALL, "model": "dear", "tokens": {"output_text": 10**12}},
            {},
            None,
            "cost_too_large",
        ),
    ],
)
async def test_what_a_call_would_cost(
    office: Office, viewer: httpx.AsyncClient, usage: Any, more: Any, cost: int | None, problem: str | None
) -> None:
    version = await proposed(
        office,
        llm=[row(valid_from="2026-06-01T00:00:00Z"), row(id="dear", model="dear", prices={"output_text": "99999999"})],
        compute={"id": "c", "cpu_hour": "0.06", "memory_gb_hour": "0.02"},
        api_calls=[{"id": "calls", "price": "7.14", "tiers": [{"above": 10_000, "price": "5"}]}],
        meters=[{"id": "storage", "meter": "storage", "unit": "GB month", "price": "0.1"}],
        markups=[
            {"id": "llm", "meter": "llm_tokens", "percent": "20"},
            {"id": "free", "plan": "free", "percent": "-100"},
        ],
    )
    at = {"at": "2026-11-30T12:00:00Z"}
    found = await post(viewer, f"/price-books/{version}/calculate", usage=usage, **(at | more))
    assert (found["priced"], found["cost_nanos"], found["problem"]) == (problem is None, cost, problem)
    assert sum(Decimal(line["amount_nanos"]) for line in found["lines"]) == (cost or 0)
    assert sum(Decimal(line["amount"]) for line in found["lines"]) == Decimal(found["cost"] or 0)
    assert Decimal(found["cost"] or 0) * 10**9 == (cost or 0)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (
            "/calculate",
            {"usage": {"meter": "llm_tokens", "provider": "p", "model": "m", "tokens": {"words": 1}}},
            "words",
        ),
        ("/calculate", {"usage": {"meter": "compute", "cpu_hours": "-1"}}, "cpu_hours"),
        ("/calculate", {"usage": {"meter": "compute", "cpu_hours": "NaN"}}, "cpu_hours"),
        ("/calculate", {"usage": {"meter": "api_calls", "endpoint": "x\0", "count": 1}}, "endpoint"),
        ("/calculate", {"usage": {"meter": "api_calls", "endpoint": "x", "count": 10**13}}, "count"),
        ("/calculate", {"usage": {"meter": "gold"}}, "usage"),
        ("/calculate", {"usage": {"meter": "compute"}, "at": "9999-12-31T00:00:00Z"}, "at"),
        ("/activate", {**WHY, "effective_at": "1999-01-01T00:00:00Z"}, "effective_at"),
        ("/activate", {}, "reason"),
        ("/confirm", {**WHY, "choices": []}, "choices"),
    ],
)
async def test_bad_input_is_named(
    office: Office, admin: httpx.AsyncClient, path: str, body: dict[str, Any], field: str
) -> None:
    version = await proposed(office)
    answer = await admin.post(f"/admin/price-books/{version}{path}", json=body)
    assert answer.status_code == 422
    assert field in answer.text


async def test_a_row_that_is_not_disputed_cannot_be_confirmed(office: Office, admin: httpx.AsyncClient) -> None:
    version = await proposed(office)
    answer = await admin.post(f"/admin/price-books/{version}/confirm", json={**WHY, "choices": [{"row": "sonnet"}]})
    assert (answer.status_code, answer.json()["field"]) == (422, "row")


async def test_unknown_models_say_whether_they_are_priced_by_now(office: Office, viewer: httpx.AsyncClient) -> None:
    await put_in_force(office, llm=[row(model="known-now")])
    models = UnknownModels(office.db)
    for model in ("known-now", "still-unknown"):
        models.note(UnknownModel("openai", model, "no_row"), NOW, stated_price=False)
    await models.flush()
    found = await get(viewer, "/unknown-models")
    priced = {each["model"]: each["priced_now"] for each in found["models"]}
    assert (priced["known-now"], priced["still-unknown"]) == (True, False)


@pytest.mark.parametrize(
    ("unknown", "lacking", "later"),
    [
        (
            UnknownModel("openai", "gpt", "no_price_for_mode", "priority"),
            row(),
            row(modes={"priority": {"prices": {"input_uncached": "2", "output_text": "2"}}}),
        ),
        (
            UnknownModel("openai", "gpt", "no_price_for_class", "output_text"),
            row(prices={"input_uncached": "1"}),
            row(prices={"input_uncached": "1", "output_text": "1"}),
        ),
        (UnknownModel("openai", "gpt", "disputed"), row(status="disputed"), row(status="confirmed")),
        # As versions before 0033 stored them
        (
            UnknownModel("openai", "gpt", "no_price_for_mode"),
            row(),
            row(modes={"priority": {"prices": {"input_uncached": "2", "output_text": "2"}}}),
        ),
        (UnknownModel("openai", "gpt", "no_price_for_class"), row(prices={"output_text": "1"}), row()),
    ],
)
async def test_a_mode_or_class_is_priced_once_it_has_a_price(
    office: Office, viewer: httpx.AsyncClient, unknown: UnknownModel, lacking: dict[str, Any], later: dict[str, Any]
) -> None:
    models = UnknownModels(office.db)
    models.note(unknown, NOW, stated_price=False)
    await models.flush()
    stated = {"prices": {"input_uncached": "9", "output_text": "9"}}
    for rows, policy, priced in (
        ([lacking], None, False),
        ([lacking], stated, False),  # the stated price of unknown models is none of the model
        ([later], None, True),
    ):
        await put_in_force(office, llm=rows, unknown_models=policy)
        [found] = [each for each in (await get(viewer, "/unknown-models"))["models"] if each["model"] == "gpt"]
        assert (found["priced_now"], found["missing"]) == (priced, unknown.missing)


async def test_an_admin_who_saw_no_version_in_force_is_not_the_second_to_put_one_in_force(
    office: Office, admin: httpx.AsyncClient
) -> None:
    """Clients that send `seen_in_force: null` state nothing, as before."""
    first, second = await proposed(office, currency="EUR"), await proposed(office, currency="EUR")
    saw_none = {**WHY, "seen_in_force": None, "seen_none_in_force": True}
    await post(admin, f"/price-books/{first}/activate", **saw_none)
    late = await admin.post(f"/admin/price-books/{second}/activate", json=saw_none)
    assert (late.status_code, late.json()["current"]) == (409, {"in_force": first})
    both = await admin.post(f"/admin/price-books/{second}/activate", json={**saw_none, "seen_in_force": first})
    assert (both.status_code, both.json()["field"]) == (422, "seen_none_in_force")
    await post(admin, f"/price-books/{second}/activate", **WHY, seen_in_force=None)
    await post(admin, f"/price-books/{first}/activate", **WHY, seen_in_force=second, seen_none_in_force=False)
