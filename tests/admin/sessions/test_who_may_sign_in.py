"""Sessions are listed and ended by their owners and by admins; there is always an admin."""

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.admins.admins import Role, change_admin
from tests.admin.conftest import DOMAIN, Office
from tests.admin.sessions.conftest import (
    ADMINS,
    LOGOUT,
    USER,
    SetClock,
    active_admins,
    alive,
    another_session,
    audit_rows,
    dead,
    parsed,
    person,
    refused,
    script,
)
from tests.admin.test_routes import NOBODY
from tests.books import connected, waiting_for_locks


@pytest.mark.parametrize("role", ["viewer", "support", "admin"])
async def test_everybody_lists_and_ends_their_own_sessions(office: Office, second: Office, role: Role) -> None:
    someone = await person(office, role)
    other, third = await another_session(office, someone), await another_session(office, someone)
    async with script(office, someone) as client:
        found = (await client.get(f"{ADMINS}/{someone.admin_id}/sessions")).json()["sessions"]
        assert {(UUID(each["session_id"]), each["current"]) for each in found} == {
            *((someone.session_id, True), (other.session_id, False), (third.session_id, False)),
        }
        assert "token" not in str(found)
        url = f"{ADMINS}/{someone.admin_id}/sessions/revoke"
        for revoked in (1, 0):
            answer = await client.post(url, params={"session_id": str(other.session_id)})
            assert answer.json() == {"revoked": revoked}
        await dead(other, office, second)
        await alive(third, office, second)
        assert (await client.post(url)).json() == {"revoked": 2}
    await dead(someone, office, second)
    await dead(third, office, second)
    rows = [row for row in await office.audit("admin.revoke_sessions") if row["admin_id"] == someone.admin_id]
    assert [row["after"] for row in map(parsed, rows)] == [{"sessions_revoked": 1}, {"sessions_revoked": 2}]


async def test_the_sessions_of_others_are_for_admins(office: Office, second: Office) -> None:
    victim = await person(office, "admin")
    before = await audit_rows(office)
    for role in ("viewer", "support"):
        async with script(office, await person(office, role)) as client:
            refused(await client.get(f"{ADMINS}/{victim.admin_id}/sessions"), 403, "admin_forbidden")
            refused(await client.post(f"{ADMINS}/{victim.admin_id}/sessions/revoke"), 403, "admin_forbidden")
            # nor under the own name
            own = (await client.get(USER)).json()["admin_id"]
            params = {"session_id": str(victim.session_id)}
            assert (await client.post(f"{ADMINS}/{own}/sessions/revoke", params=params)).json() == {"revoked": 0}
    await alive(victim, office, second)
    assert await audit_rows(office) == before
    async with office.client("admin") as admin:
        (found,) = (await admin.get(f"{ADMINS}/{victim.admin_id}/sessions")).json()["sessions"]
        assert (found["session_id"], found["current"]) == (str(victim.session_id), False)
        assert (await admin.post(f"{ADMINS}/{victim.admin_id}/sessions/revoke")).json() == {"revoked": 1}
        assert (await admin.get(f"{ADMINS}/{victim.admin_id}/sessions")).json() == {"sessions": []}
        for method, path in (("GET", "sessions"), ("POST", "sessions/revoke")):
            refused(await admin.request(method, f"{ADMINS}/{NOBODY}/{path}"), 404, "admin_not_found")
    await dead(victim, office, second)


async def test_ended_sessions_are_not_listed(office: Office, at: SetClock) -> None:
    now = datetime.now(UTC)
    someone = await person(office, "viewer", now=now - timedelta(hours=8))
    current = await another_session(office, someone)
    async with script(office, current) as client:
        found = (await client.get(f"{ADMINS}/{someone.admin_id}/sessions")).json()["sessions"]
    assert [each["session_id"] for each in found] == [str(current.session_id)]


# --- who may sign in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "viewer"}, {"role": "support", "disabled": True}])
async def test_the_last_admin_stays(small: Office, change: dict[str, Any]) -> None:
    last = await person(small, "admin")
    await person(small, "support")
    gone = await person(small, "admin")
    async with script(small, last) as client:
        assert (await client.patch(f"{ADMINS}/{gone.admin_id}", json=change)).status_code == 200
        before = await audit_rows(small)
        refused(await client.patch(f"{ADMINS}/{last.admin_id}", json=change), 409, "last_admin")
        assert await audit_rows(small) == before
        assert (
            await client.patch(f"{ADMINS}/{gone.admin_id}", json={"role": "admin", "disabled": False})
        ).status_code == 200
        assert (await client.patch(f"{ADMINS}/{last.admin_id}", json=change)).status_code == 200
    assert await active_admins(small) == {gone.admin_id}


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "viewer"}])
async def test_of_two_admins_who_lock_each_other_out_one_stays(small: Office, change: dict[str, Any]) -> None:
    a, b = await person(small, "admin"), await person(small, "admin")
    async with script(small, a) as by_a, script(small, b) as by_b:
        async with connected(small.urls) as connection, connection.transaction():
            await connection.execute("SELECT FROM admin_users FOR UPDATE")
            both = [
                asyncio.create_task(by_a.patch(f"{ADMINS}/{b.admin_id}", json=change)),
                asyncio.create_task(by_b.patch(f"{ADMINS}/{a.admin_id}", json=change)),
            ]
            await waiting_for_locks(small.urls, 2)
        answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(await active_admins(small)) == 1
    assert await audit_rows(small) == 1


async def test_many_admins_who_lock_each_other_out_at_once_leave_one(small: Office) -> None:
    people = [await person(small, "admin") for _ in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(script(small, each)) for each in people]
        answers = await asyncio.gather(
            *(
                client.patch(f"{ADMINS}/{victim.admin_id}", json={"disabled": True})
                for client, me in zip(clients, people, strict=True)
                for victim in people
                if victim is not me
            )
        )
    left = await active_admins(small)
    assert len(left) >= 1
    assert {answer.status_code for answer in answers} <= {200, 401, 409, 503}
    assert await audit_rows(small) == len(people) - len(left)


async def test_who_is_being_changed_can_still_log_out(small: Office) -> None:
    """The rows' lock keeps other changes of admins away, not the audit rows that refer to them."""
    someone, other = await person(small, "admin"), await person(small, "admin")
    async with small.db.transaction() as tx:
        await change_admin(tx, other.admin_id, role="viewer", disabled=None, now=datetime.now(UTC))
        async with script(small, someone) as client:
            assert (await client.post(LOGOUT)).status_code == 204
        async with script(small, other) as client:
            assert (await client.post(LOGOUT)).status_code == 204


async def test_inviting_twice_is_409(office: Office, admin: httpx.AsyncClient) -> None:
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    first = await admin.post(ADMINS, json={"email": f" {email.upper()} ", "role": "viewer"})
    assert (first.status_code, first.json()["email"]) == (201, email)
    before = await audit_rows(office)
    for again in (email, email.upper(), f"\t{email}\n"):
        refused(await admin.post(ADMINS, json={"email": again, "role": "admin"}), 409, "admin_exists")
    assert await audit_rows(office) == before
    admin_id = first.json()["admin_id"]
    assert (await admin.patch(f"{ADMINS}/{admin_id}", json={"disabled": True})).status_code == 200
    back = await admin.post(ADMINS, json={"email": email, "role": "support"})
    assert (back.status_code, back.json()["admin_id"], back.json()["role"]) == (201, admin_id, "support")


async def test_of_simultaneous_invitations_one_is_the_first(small: Office) -> None:
    """The other must not change the role that it gave."""
    someone = await person(small, "admin")
    async with script(small, someone) as client:
        async with connected(small.urls) as connection:
            meanwhile = connection.transaction()
            await meanwhile.start()
            await connection.execute(
                "INSERT INTO admin_users (admin_id, email, role, created_at)"
                " VALUES (gen_random_uuid(), $1, 'viewer', now())",
                f"new@{DOMAIN}",
            )
            both = [
                asyncio.create_task(client.post(ADMINS, json={"email": f"new@{DOMAIN}", "role": role}))
                for role in ("viewer", "admin")
            ]
            await waiting_for_locks(small.urls, 2)
            await meanwhile.rollback()
        answers = await asyncio.gather(*both)
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert await audit_rows(small) == 1


@pytest.mark.parametrize(
    "body",
    [
        *(
            {"email": email, "role": "viewer"}
            for email in ("", "x", "@", "a@", "@b", "a b@c", "a@b@c", "a\0@b", "x" * 255)
        ),
        *({"email": "\ud800@b", "role": "viewer"}, {"email": f"{'x' * 250}@b.cd", "role": "viewer"}),
        *({"email": "a@b", "role": role} for role in ("owner", "", None, 1, "ADMIN")),
        *({}, [], None, {"email": "a@b"}, {"email": ["a@b"], "role": "viewer"}),
    ],
    ids=str,
)
async def test_an_invitation_that_makes_no_sense_is_422(office: Office, admin: httpx.AsyncClient, body: object) -> None:
    before = await audit_rows(office)
    answer = await admin.post(ADMINS, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert await audit_rows(office) == before


@pytest.mark.parametrize(
    "email", ["bob@gmail.com", f"bob@mail.{DOMAIN}", f"bob@{DOMAIN}.evil.com", f"\u212aarl@{DOMAIN}"]
)
async def test_nobody_is_invited_who_could_never_sign_in(office: Office, admin: httpx.AsyncClient, email: str) -> None:
    before = await audit_rows(office)
    refused(await admin.post(ADMINS, json={"email": email, "role": "viewer"}), 422, "invalid_request")
    assert await audit_rows(office) == before
