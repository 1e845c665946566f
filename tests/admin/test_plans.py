"""Plans in the back office: their subscribers by kept version, their versions, and the end of their sale."""

from datetime import UTC, datetime
from typing import Any

import httpx

from app.admin.plans.kept import changes_of, merged, subscribers_of
from app.configuration.editing import Version
from tests.admin.conftest import Office
from tests.admin.subscribers import DAY, deliver, miss_payment, sell, subscribe, today
from tests.subscriptions.conftest import SOLD, priced
from tests.subscriptions.made import PRO, STANDARD, plan

FIRST, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def version(number: int, *plans: Any) -> Version:
    return Version(number, {"plans": [one.model_dump(mode="json") for one in plans]})


def test_versions_of_a_plan_are_those_that_changed_it() -> None:
    cheap, dear = plan("standard", 25), plan("standard", 30)
    other, changed = plan("pro", 60), plan("pro", 70)
    newest_first = [version(4, dear, changed), version(3, dear, other), version(2, cheap, other), version(1, other)]
    found = changes_of("standard", newest_first, before=None)
    assert [(one.version.version, one.plan) for one in found] == [(3, dear), (2, cheap)]
    assert [one.version.version for one in changes_of("pro", newest_first[:2], newest_first[2].document)] == [4]
    assert changes_of("unknown", newest_first, before=None) == []


def test_documents_that_mean_the_same_plan_are_counted_together() -> None:
    stored = STANDARD.model_dump(mode="json")
    shorter = {name: value for name, value in stored.items() if name not in ("features", "withdrawn")}
    dates = {"first_at": FIRST, "last_at": FIRST}
    rows = [
        {"terms": stored, "subscribers": 3, "past_due": 1, **dates},
        {"terms": PRO.model_dump(mode="json"), "subscribers": 5, "past_due": 0, **dates},
        {"terms": shorter, "subscribers": 4, "past_due": 0, "first_at": LATER, "last_at": LATER},
    ]
    standard, pro = merged(rows)  # those kept last first
    assert (standard.plan, standard.subscribers, standard.past_due) == (STANDARD, 7, 1)
    assert (standard.first_at, standard.last_at) == (FIRST, LATER)
    assert (subscribers_of(PRO, [standard, pro]), subscribers_of(plan("pro", 61), [standard, pro])) == (5, 0)


async def test_withdrawn_plan_keeps_its_subscribers_and_their_terms(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    first = await sell(admin)
    now = today()
    early = await subscribe(office, now - 35 * DAY)
    await subscribe(office, now - 3 * DAY)
    dearer = priced(plan("standard", 30), 2500, 25_000)
    second = await sell(admin, SOLD[0], dearer, SOLD[2])
    await subscribe(office, now - 2 * DAY)

    found = (await viewer.get("/admin/plans/standard")).json()
    assert (found["subscribers"], found["on_earlier_terms"], found["past_due"]) == (3, 2, 0)
    assert [(kept["plan"]["grants"][0]["amount"], kept["subscribers"]) for kept in found["kept"]] == [
        ("30", 1),
        ("25", 2),
    ]
    versions = [(one["version"], one["subscribers"], one["changed_by"]) for one in found["versions"]]
    assert versions == [(second, 1, "admin@example.com"), (first, 2, "admin@example.com")]

    path, body = "/admin/plans/standard/withdraw", {"reason": "replaced by pro"}
    stale = await admin.post(path, json={**body, "version": first})
    assert (stale.status_code, stale.json()["code"]) == (409, "configuration_changed")
    for _ in range(2):  # the second changes nothing
        version = (await viewer.get("/admin/plans")).json()["version"]
        withdrawn = await admin.post(path, json={**body, "version": version})
        assert withdrawn.status_code == 200, withdrawn.text
        assert (withdrawn.json()["plan"]["withdrawn"], withdrawn.json()["subscribers"]) == (True, 3)
    [entry] = await office.audit("plan.withdraw")
    assert (entry["target_id"], entry["reason"]) == ("standard", body["reason"])
    sold = (await viewer.get("/v1/plans")).json()["plans"]
    assert "standard" not in [one["plan"] for one in sold]

    await miss_payment(office, early, now - DAY)
    listed = (await viewer.get("/admin/plans")).json()["plans"]
    [row] = [one for one in listed if one["plan"]["name"] == "standard"]
    assert (row["subscribers"], row["past_due"], row["on_earlier_terms"]) == (3, 1, 3)
    assert listed[-1] == row  # withdrawn plans are last
    paid = early.invoice("paid", 2, now, early.line((now - DAY, now + 29 * DAY)))
    await deliver(office, now, paid, early.payment(2, now))
    grants = (await viewer.get(f"/admin/users/{early.account_id}/subscriptions")).json()["grants"]
    assert [grant["amount"] for grant in grants] == ["25.000000"] * 2  # by its kept terms

    missing = await viewer.get("/admin/plans/unknown")
    assert (missing.status_code, missing.json()["code"]) == (404, "plan_not_found")
