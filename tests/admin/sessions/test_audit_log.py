"""Every change is in the audit log, with the change or not at all."""

import csv
import io
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.auth.admins.admins import add_admin
from app.auth.caller import Permission
from app.auth.errors import SignInNotConfigured
from tests.admin.conftest import DOMAIN, Office
from tests.admin.sessions.conftest import (
    ADMINS,
    LOGOUT,
    Person,
    active_admins,
    alive,
    audit_rows,
    dead,
    parsed,
    person,
    script,
)
from tests.admin.test_routes import NOBODY
from tests.conftest import make_key, running_app


async def an_account(office: Office) -> UUID:
    key = await make_key(office.db, "live", Permission.READ, Permission.WRITE)
    body = {"oauth_provider": "oauth:google", "external_id": str(uuid.uuid4()), "amount_minor": 100}
    async with office.client(None) as agent:
        answer = await agent.post(
            "/v1/billing/charges",
            json={**body, "idempotency_key": "one", "description": "one"},
            headers={"X-API-Key": key},
        )
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["account_id"])


class Auditor:
    """Does one thing at a time, and looks at the one row that it leaves."""

    def __init__(self, office: Office, who: Person) -> None:
        self.office, self.who = office, who
        self.client = script(office, who)

    async def sees(self, method: str, path: str, action: str, target: object, body: object = None) -> dict[str, Any]:
        before = await audit_rows(self.office)
        request_id = uuid.uuid4().hex
        answer = await self.client.request(method, path, json=body, headers={"X-Request-ID": request_id})
        assert answer.status_code in (200, 201, 204), answer.text
        assert await audit_rows(self.office) == before + 1
        (row,) = await self.office.rows("SELECT * FROM admin_audit_log WHERE request_id = $1", request_id)
        assert (row["admin_id"], row["admin_email"]) == (self.who.admin_id, self.who.email)
        assert (row["session_id"], row["address"]) == (self.who.session_id, "127.0.0.1")
        assert abs(row["created_at"] - datetime.now(UTC)) < timedelta(seconds=30)
        assert row["action"] == action
        if target is not None:
            assert row["target_id"] == str(target)
        return parsed(row)

    async def sees_nothing(self, method: str, path: str, status: int, body: object = None) -> None:
        before = await audit_rows(self.office)
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert await audit_rows(self.office) == before


@pytest.fixture
async def auditor(office: Office) -> AsyncIterator[Auditor]:
    auditor = Auditor(office, await person(office, "admin"))
    yield auditor
    await auditor.client.aclose()


async def test_what_is_done_to_admins_is_written_down(auditor: Auditor) -> None:
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    row = await auditor.sees("POST", ADMINS, "admin.invite", None, {"email": email, "role": "viewer"})
    assert (row["before"], row["after"]) == (None, {"email": email, "role": "viewer"})
    url = f"{ADMINS}/{row['target_id']}"
    target = row["target_id"]
    viewer, support = {"role": "viewer", "disabled": False}, {"role": "support", "disabled": False}
    row = await auditor.sees("PATCH", url, "admin.change", target, {"role": "support"})
    assert (row["before"], row["after"]) == (viewer, support)
    await auditor.sees_nothing("PATCH", url, 200, {"role": "support"})
    await auditor.sees_nothing("PATCH", url, 200, {})
    row = await auditor.sees("PATCH", url, "admin.change", target, {"disabled": True})
    assert (row["before"], row["after"]) == (support, {"role": "support", "disabled": True})
    row = await auditor.sees("PATCH", url, "admin.change", target, {"disabled": False, "role": "viewer"})
    assert (row["before"], row["after"]) == ({"role": "support", "disabled": True}, viewer)
    victim = await person(auditor.office, "viewer")
    revoke = f"{ADMINS}/{victim.admin_id}/sessions/revoke"
    row = await auditor.sees("POST", revoke, "admin.revoke_sessions", victim.admin_id)
    assert (row["target_type"], row["after"]) == ("admin", {"sessions_revoked": 1})
    await auditor.sees_nothing("POST", revoke, 200)
    row = await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    assert row["target_type"] == "session"
    await auditor.sees_nothing("POST", LOGOUT, 401)


async def test_what_is_done_to_an_account_is_written_down(auditor: Auditor) -> None:
    account_id = await an_account(auditor.office)
    url = f"/admin/users/{account_id}"
    gift = {"credits": 5, "reason": "a gift", "idempotency_key": "gift"}
    row = await auditor.sees("POST", f"{url}/credits", "account.adjust", account_id, gift)
    assert (row["environment"], row["target_type"], row["reason"]) == ("live", "account", "a gift")
    assert (row["before"], row["after"]["paid"]) == ({"paid": 0}, 5)
    await auditor.sees_nothing("POST", f"{url}/credits", 201, gift)
    await auditor.sees_nothing("POST", f"{url}/credits", 402, {**gift, "credits": -6, "idempotency_key": "take"})
    reason = {"reason": "because of this"}
    for path, action, before, after in (
        ("suspend", "account.suspend", "active", "suspended"),
        ("reopen", "account.reopen", "suspended", "active"),
        ("close", "account.close", "active", "closed"),
    ):
        row = await auditor.sees("POST", f"{url}/{path}", action, account_id, reason)
        assert (row["before"]["status"], row["after"]["status"]) == (before, after)
        assert row["reason"] == "because of this"
        await auditor.sees_nothing("POST", f"{url}/{path}", 200, reason)
        await auditor.sees_nothing("POST", f"{url}/{path}", 422, {"reason": " x "})
    await auditor.sees("POST", f"{url}/revoke-tokens", "account.revoke_tokens", account_id, reason)


async def test_what_is_done_to_a_key_is_written_down_without_its_secret(auditor: Auditor) -> None:
    body = {"environment": "test", "name": "a key", "permissions": ["billing:read"]}
    row = await auditor.sees("POST", "/admin/api-keys", "api_key.create", None, body)
    key_id = row["target_id"]
    url = f"/admin/api-keys/{key_id}"
    assert (row["environment"], row["after"]["name"], row["after"]["permissions"]) == (
        "test",
        "a key",
        ["billing:read"],
    )
    row = await auditor.sees("PATCH", url, "api_key.change", key_id, {"name": "other"})
    assert (row["before"], row["after"]) == ({"name": "a key"}, {"name": "other"})
    row = await auditor.sees("POST", f"{url}/rotate", "api_key.rotate", key_id)
    successor = row["after"]["rotated_to"]
    await auditor.sees_nothing("POST", f"{url}/rotate", 409)
    await auditor.sees("POST", f"/admin/api-keys/{successor}/revoke", "api_key.revoke", successor)
    await auditor.sees_nothing("POST", f"/admin/api-keys/{successor}/revoke", 200)
    for entry in await auditor.office.rows("SELECT * FROM admin_audit_log WHERE target_type = 'api_key'"):
        assert "argon2" not in str(entry)
        assert "secret" not in str(entry)


async def test_a_refused_write_leaves_no_row(office: Office, auditor: Auditor) -> None:
    viewer = Auditor(office, await person(office, "viewer"))
    await viewer.sees_nothing("POST", ADMINS, 403, {"email": "a@b", "role": "admin"})
    await viewer.sees_nothing("PATCH", f"{ADMINS}/{viewer.who.admin_id}", 403, {"role": "admin"})
    await viewer.client.aclose()
    await auditor.sees_nothing("PATCH", f"{ADMINS}/{NOBODY}", 404, {"role": "admin"})
    await auditor.sees_nothing("POST", f"/admin/users/{NOBODY}/suspend", 404, {"reason": "because"})
    await auditor.sees_nothing("POST", "/admin/api-keys", 422, {"name": "x"})


async def test_a_change_that_cannot_be_written_down_does_not_happen(small: Office) -> None:
    someone, victim = await person(small, "admin"), await person(small, "admin")
    await small.rows("ALTER TABLE admin_audit_log ADD CHECK (action <> 'admin.change' AND action <> 'admin.invite')")
    async with script(small, someone) as client:
        invitation = {"email": f"new@{DOMAIN}", "role": "viewer"}
        assert (await client.post(ADMINS, json=invitation)).status_code == 500
        assert (await client.patch(f"{ADMINS}/{victim.admin_id}", json={"disabled": True})).status_code == 500
    assert await active_admins(small) == {someone.admin_id, victim.admin_id}
    assert await small.rows("SELECT FROM admin_users WHERE role = 'viewer'") == []
    await alive(victim, small)


@pytest.mark.parametrize("role", ["service", "owner"])
@pytest.mark.parametrize(
    "sql",
    [
        *("UPDATE admin_audit_log SET reason = 'another'", "DELETE FROM admin_audit_log", "TRUNCATE admin_audit_log"),
        *("UPDATE admin_audit_log SET admin_id = admin_id WHERE false", "TRUNCATE admin_users CASCADE"),
    ],
)
async def test_nobody_rewrites_the_audit_log(office: Office, auditor: Auditor, role: str, sql: str) -> None:
    await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    before = await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id")
    connection = await asyncpg.connect(getattr(office.urls, role))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(sql)
    finally:
        await connection.close()
    assert await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id") == before


async def test_the_audit_log_outlives_whom_it_names(office: Office, auditor: Auditor) -> None:
    await auditor.sees("POST", LOGOUT, "session.close", auditor.who.session_id)
    connection = await asyncpg.connect(office.urls.owner)
    try:
        await connection.execute("DELETE FROM admin_sessions WHERE admin_id = $1", auditor.who.admin_id)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute("DELETE FROM admin_users WHERE admin_id = $1", auditor.who.admin_id)
    finally:
        await connection.close()


async def test_the_log_is_read_page_by_page_and_by_filters(office: Office, auditor: Auditor) -> None:
    account_id = await an_account(office)
    for number in range(5):
        await auditor.sees(
            *("POST", f"/admin/users/{account_id}/credits", "account.adjust", account_id),
            {"credits": 1, "reason": f"number {number}", "idempotency_key": str(number)},
        )
    query: dict[str, Any] = {"target_id": str(account_id), "admin_id": str(auditor.who.admin_id), "limit": 2}
    reasons: list[str] = []
    async with office.client("viewer") as viewer:
        for _ in range(3):
            page = (await viewer.get("/admin/audit-logs", params=query)).json()
            reasons += [entry["reason"] for entry in page["entries"]]
            query["cursor"] = page["next_cursor"]
        assert reasons == [f"number {number}" for number in (4, 3, 2, 1, 0)]
        assert query["cursor"] is None
        del query["cursor"]
        moments = [
            entry["created_at"] for entry in (await viewer.get("/admin/audit-logs", params=query)).json()["entries"]
        ]
        half = {**query, "limit": 50, "since": moments[1], "until": moments[0]}
        (only,) = (await viewer.get("/admin/audit-logs", params=half)).json()["entries"]
        assert only["reason"] == "number 3"
        for nothing in ({"action": "account.close"}, {"target_type": "admin"}, {"admin_id": NOBODY}):
            assert (await viewer.get("/admin/audit-logs", params={**query, **nothing})).json()["entries"] == []
        for wrong in ({"limit": 0}, {"limit": 501}, {"since": "2026-01-01T00:00:00"}, {"cursor": "x"}):
            assert (await viewer.get("/admin/audit-logs", params={**query, **wrong})).status_code == 422


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    '=HYPERLINK("http://evil.example","x")',
    '="a\nb,c"',
    "-2+cmd|' /C calc'!A0",
]


async def test_no_cell_of_the_export_is_a_formula(office: Office) -> None:
    """For text from every source: an admin's address, a request's id, a reason."""
    now = datetime.now(UTC)
    email = f"=cmd|{uuid.uuid4().hex}@{DOMAIN}"
    async with office.db.transaction() as tx:
        await add_admin(tx, email, "admin", now=now)
        token = await office.sessions.open_for_script(tx, email, now=now)
    account_id = await an_account(office)
    async with office.client(None) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        for number, formula in enumerate(FORMULAS):
            body = {"credits": 1, "reason": formula + "  ", "idempotency_key": str(number)}
            headers = {"X-Request-ID": ("=+-@")[number % 4] + f"{number}x"}
            answer = await client.post(f"/admin/users/{account_id}/credits", json=body, headers=headers)
            assert answer.status_code == (201 if len(formula) > 2 else 422), answer.text
    async with office.client("viewer") as viewer:
        export = await viewer.get("/admin/audit-logs.csv", params={"target_id": str(account_id)})
        shown = (await viewer.get("/admin/audit-logs", params={"target_id": str(account_id)})).json()["entries"]
    assert export.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert export.headers["Content-Disposition"] == 'attachment; filename="audit-log.csv"'
    rows = list(csv.DictReader(io.StringIO(export.content.decode("utf-8-sig"), newline="")))
    reasons = [formula for formula in FORMULAS if len(formula) > 2][::-1]
    assert [entry["reason"] for entry in shown] == reasons, "the JSON is as it was written"
    assert [row["reason"] for row in rows] == [f"'{reason}" for reason in reasons]
    assert {row["admin_email"] for row in rows} == {f"'{email}"}
    for row in rows:
        assert row["request_id"][:2] in ("'=", "'+", "'-", "'@")
        assert json.loads(row["after"])["paid"] >= 1
        assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in row.values())


async def test_export_is_all_that_matches_page_by_page(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.admin.csv_export.EXPORTED_AT_ONCE", 2)
    account_id = await an_account(office)
    async with office.client("admin") as admin:
        for number in range(5):
            body = {"credits": 1, "reason": f"gift {number}", "idempotency_key": str(number)}
            assert (await admin.post(f"/admin/users/{account_id}/credits", json=body)).status_code == 201
        for filters, numbers in (({}, [4, 3, 2, 1, 0]), ({"action": "account.close"}, [])):
            params = {"target_id": str(account_id), **filters}
            export = await admin.get("/admin/audit-logs.csv", params=params)
            rows = list(csv.DictReader(io.StringIO(export.content.decode("utf-8-sig"), newline="")))
            assert [row["reason"] for row in rows] == [f"gift {number}" for number in numbers]
        newest = (await admin.get("/admin/audit-logs", params={"target_id": str(account_id)})).json()["entries"][0]
        before = {"target_id": str(account_id), "until": newest["created_at"]}
        export = await admin.get("/admin/audit-logs.csv", params=before)
        assert len(export.text.splitlines()) == 1 + 4


async def test_without_a_secret_there_are_no_sessions(office: Office) -> None:
    settings = office.app.state.settings.model_copy(update={"admin_session_secret": None})
    async with running_app(settings) as app:
        someone, without = await person(office, "admin"), Office(app, office.urls)
        await dead(someone, without)
        async with without.db.transaction() as tx:
            with pytest.raises(SignInNotConfigured):
                await without.sessions.open_for_script(tx, someone.email, now=datetime.now(UTC))
