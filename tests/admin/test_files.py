"""The lists of users and of API keys as spreadsheet files: all that the list has, for roles that may see the list."""

import asyncio
import csv
import io
import itertools
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.admin.csv_export import _cell
from app.errors import DatabaseDown
from tests.admin.conftest import Office
from tests.admin.test_users import open_account

USERS, KEYS = "/admin/users", "/admin/api-keys"
PURCHASES, AUDIT_LOG = "/admin/purchases", "/admin/audit-logs"
CELLS = json.loads((Path(__file__).parent / "csv_cells.json").read_text(encoding="utf-8"))


async def file(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, str]]:
    answer = await client.get(f"{path}.csv", params=params)
    assert answer.status_code == 200, answer.text
    name = path.rpartition("/")[2]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.admin.csv_export.EXPORTED_AT_ONCE", 2)


@pytest.mark.usefixtures("small_pages")
async def test_file_of_users_is_the_list_whatever_filters_it(office: Office, support: httpx.AsyncClient) -> None:
    plan = f"plan {uuid.uuid4()}"
    for environment, paid in itertools.product(("live", "test"), (0, 1, 2, 3)):
        await open_account(
            office,
            environment=environment,  # type: ignore[arg-type]  # of product(), which knows strings only
            plan_name=plan,
            paid=paid,
            customer_email=f"{plan}-{paid}@example.com",
            display_name=f"=1+{paid}",
        )
    now = datetime.now(UTC).isoformat()
    for filters in (
        {},
        {"environment": "test"},
        {"balance": "paid"},
        {"status": "closed"},
        {"search": f"{plan}-2"},
        {"active_since": now},
        {"inactive_since": now},
    ):
        narrowed = {"plan_name": plan, **filters}
        listed = (await support.get(USERS, params={**narrowed, "limit": 200})).json()["users"]
        rows = await file(support, USERS, **narrowed, sort="balance", limit=1)  # which are the list's alone
        assert [row["account_id"] for row in rows] == [user["account_id"] for user in listed], filters
        for row, user in zip(rows, listed, strict=True):
            assert list(row) == list(user)
            columns = ("environment", "status", "customer_email", "paid", "plan_name")
            assert [row[name] for name in columns] == [str(user[name]) for name in columns]
            assert row["display_name"] == f"'{user['display_name']}"


@pytest.mark.usefixtures("small_pages")
async def test_file_of_keys_is_the_list_without_secrets(
    office: Office, admin: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    secrets = []
    for number, environment in enumerate(("live", "live", "live", "test", "test")):
        body = {
            "environment": environment,
            "name": f"@agent {number}",
            "permissions": ["billing:write", "billing:read"],
            "ip_allow_list": ["192.0.2.0/24", "2001:db8::/32"],
        }
        secrets.append((await admin.post(KEYS, json=body)).json()["api_key"].rpartition("_")[2])
    secrets += [row["secret_hash"] for row in await office.rows("SELECT secret_hash FROM api_keys")]
    for filters in ({}, {"environment": "live"}, {"environment": "test"}):
        listed = (await viewer.get(KEYS, params=filters)).json()["api_keys"]
        rows = await file(viewer, KEYS, **filters)
        assert [row["key_id"] for row in rows] == [key["key_id"] for key in listed]
        for row, key in zip(rows, listed, strict=True):
            assert list(row) == list(key)
            assert (row["name"], row["status"]) == (f"'{key['name']}", "active")
            assert (row["permissions"], row["ip_allow_list"]) == (
                "billing:read, billing:write",
                "192.0.2.0/24, 2001:db8::/32",
            )
            assert row["created_at"][:23] == key["created_at"][:23]  # milliseconds, which the file is finer than
            assert not any(secret in cell for cell in row.values() for secret in secrets)


@pytest.mark.usefixtures("small_pages")
async def test_file_meets_each_user_once_while_they_come_and_spend(office: Office, support: httpx.AsyncClient) -> None:
    plan = f"plan {uuid.uuid4()}"
    there = {str(await open_account(office, plan_name=plan)) for _ in range(9)}

    async def come() -> None:
        for _ in range(5):
            await open_account(office, plan_name=plan, paid=5)

    rows, _ = await asyncio.gather(file(support, USERS, plan_name=plan), come())
    exported = [row["account_id"] for row in rows]
    assert len(exported) == len(set(exported))
    assert there <= set(exported)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        *((path, {"status": "open"}) for path in (USERS, f"{USERS}.csv", "/admin/purchases", "/admin/purchases.csv")),
        *((path, {"search": "\0"}) for path in (USERS, f"{USERS}.csv")),
        *((path, {"since": "soon"}) for path in ("/admin/audit-logs", "/admin/audit-logs.csv")),
        *((path, {"environment": "prod"}) for path in (KEYS, f"{KEYS}.csv", f"{USERS}.csv")),
        *((path, {"limit": "0"}) for path in (USERS, "/admin/purchases", "/admin/audit-logs")),
    ],
)
async def test_a_filter_that_makes_no_sense_is_named(
    support: httpx.AsyncClient, path: str, wrong: dict[str, str]
) -> None:
    answer = await support.get(path, params=wrong)
    assert answer.status_code == 422, answer.text
    [problem] = answer.json()["detail"]
    assert problem["loc"] == ["query", *wrong]


@pytest.mark.parametrize(("value", "cell"), CELLS)
def test_no_cell_is_a_formula(value: str, cell: str) -> None:
    assert _cell(value) == cell


def test_numbers_stay_numbers() -> None:
    assert [_cell(value) for value in (-5, 0, None, ["=a", "b"], {"a": -1})] == ["-5", "0", "", "'=a, b", '{"a": -1}']


@pytest.mark.parametrize("path", [USERS, KEYS, PURCHASES, AUDIT_LOG])
async def test_every_file_begins_with_one_byte_order_mark(support: httpx.AsyncClient, path: str) -> None:
    content = (await support.get(f"{path}.csv")).content
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.count(b"\xef\xbb\xbf") == 1


async def test_an_export_of_people_needs_support_and_is_audited(
    office: Office, viewer: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    """Free text among the filters may be a customer's name, and stays out of the audit log."""
    account_id = str(await open_account(office, display_name="Zaphod Beeblebrox"))
    exports = {
        f"{USERS}.csv": {"search": "Zaphod", "environment": "live"},
        f"{PURCHASES}.csv": {"account_id": account_id, "payment_id": "pi_of_zaphod"},
        f"{USERS}/{account_id}/export": {},
    }
    for path, params in exports.items():
        refused = await viewer.get(path, params=params)
        assert (refused.status_code, refused.json()["code"]) == (403, "admin_forbidden"), path
    before = await office.rows("SELECT audit_id FROM admin_audit_log")
    for path, params in exports.items():
        assert (await support.get(path, params=params)).status_code == 200
    assert (await viewer.get(f"{AUDIT_LOG}.csv", params={"action": "account.adjust"})).status_code == 200
    rows = await office.rows("SELECT action, target_id, after FROM admin_audit_log ORDER BY audit_id DESC LIMIT 4")
    assert len(await office.rows("SELECT audit_id FROM admin_audit_log")) == len(before) + 4
    assert [(row["action"], row["target_id"]) for row in rows] == [
        ("list.export", "audit_log"),
        ("account.export", account_id),
        ("list.export", "purchases"),
        ("list.export", "users"),
    ]
    assert json.loads(rows[3]["after"]) == {"search": "given", "environment": "live"}
    assert json.loads(rows[2]["after"]) == {"account_id": account_id, "payment_id": "given"}


async def test_an_export_that_cannot_be_audited_gives_nothing_away(
    office: Office, support: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseDown

    monkeypatch.setattr("app.admin.audit.queries.insert_audit_entry", fail)
    answer = await support.get(f"{USERS}.csv")
    assert answer.status_code == 503
    assert "account_id" not in answer.text
