"""Every route of the back office: closed without a session, open to its role and those above it."""

import uuid

import httpx
import pytest

from app.auth.admins.admins import ROLES, Role
from app.db import opaque_ids
from app.main import create_app
from tests.admin.conftest import Office
from tests.conftest import ClientFor, Keys, settings_for
from tests.databases import Urls

NOBODY = str(uuid.UUID(int=1))
REASON = {"reason": "because"}
LEAST: dict[tuple[str, str], Role] = {
    ("GET", "/admin/oauth/user"): "viewer",
    ("POST", "/admin/oauth/logout"): "viewer",
    ("GET", "/admin/users"): "viewer",
    ("GET", "/admin/users/{account_id}"): "viewer",
    ("GET", "/admin/users/{account_id}/timeline"): "viewer",
    ("POST", "/admin/users/{account_id}/credits"): "support",
    ("POST", "/admin/users/{account_id}/suspend"): "support",
    ("POST", "/admin/users/{account_id}/reopen"): "support",
    ("POST", "/admin/users/{account_id}/close"): "admin",
    ("POST", "/admin/users/{account_id}/billing"): "admin",
    ("POST", "/admin/users/{account_id}/revoke-tokens"): "support",
    ("POST", "/admin/users/{account_id}/free-credits"): "support",
    ("GET", "/admin/users/{account_id}/wallet"): "viewer",
    ("GET", "/admin/users/{account_id}/holds"): "viewer",
    ("GET", "/admin/users/{account_id}/limits"): "viewer",
    ("PUT", "/admin/users/{account_id}/limits"): "admin",
    ("POST", "/admin/users/{account_id}/limits/{limit_id}/remove"): "admin",
    ("GET", "/admin/users/{account_id}/grants"): "viewer",
    ("POST", "/admin/users/{account_id}/grants"): "support",
    ("GET", "/admin/approvals"): "viewer",
    ("POST", "/admin/approvals/{approval_id}/approve"): "support",
    ("POST", "/admin/approvals/{approval_id}/deny"): "support",
    ("POST", "/admin/users/{account_id}/grants/{grant_id}/end"): "support",
    ("GET", "/admin/users/{account_id}/runs"): "viewer",
    ("GET", "/admin/users/{account_id}/runs/{run_uuid}"): "viewer",
    ("PATCH", "/admin/users/{account_id}/runs/{run_uuid}"): "support",
    ("GET", "/admin/users/{account_id}/paused-keys"): "viewer",
    ("POST", "/admin/users/{account_id}/paused-keys/{key_id}/resume"): "support",
    ("GET", "/admin/users/spellings"): "viewer",
    ("GET", "/admin/users/{account_id}/export"): "support",
    ("POST", "/admin/users/{account_id}/erase"): "admin",
    ("GET", "/admin/api-keys"): "viewer",
    ("GET", "/admin/api-keys/{key_id}"): "viewer",
    ("POST", "/admin/api-keys"): "admin",
    ("PATCH", "/admin/api-keys/{key_id}"): "admin",
    ("POST", "/admin/api-keys/{key_id}/rotate"): "admin",
    ("POST", "/admin/api-keys/{key_id}/revoke"): "admin",
    ("GET", "/admin/purchases"): "viewer",
    ("GET", "/admin/purchases/{purchase_id}"): "viewer",
    ("POST", "/admin/purchases/{purchase_id}/refund"): "admin",
    ("POST", "/admin/purchases/{purchase_id}/reconcile"): "support",
    ("GET", "/admin/purchases/reconcile"): "viewer",
    ("POST", "/admin/purchases/reconcile"): "support",
    ("GET", "/admin/failed-payments"): "viewer",
    ("GET", "/admin/subscription-figures"): "viewer",
    ("GET", "/admin/plans"): "viewer",
    ("GET", "/admin/plans/{name}"): "viewer",
    ("POST", "/admin/plans/{name}/withdraw"): "admin",
    ("GET", "/admin/subscriptions"): "viewer",
    ("GET", "/admin/subscriptions/{account_id}/{subscription_id}"): "viewer",
    ("GET", "/admin/users/{account_id}/subscriptions"): "viewer",
    ("GET", "/admin/alerts"): "viewer",
    ("GET", "/admin/alerts/{alert_id}"): "viewer",
    ("POST", "/admin/alerts/{alert_id}/dismiss"): "support",
    ("POST", "/admin/alerts/{alert_id}/hold"): "support",
    ("POST", "/admin/alerts/{alert_id}/suspend"): "support",
    ("POST", "/admin/alerts/{alert_id}/reopen"): "support",
    ("GET", "/admin/alert-rules"): "viewer",
    ("PUT", "/admin/alert-rules/{rule}"): "admin",
    ("GET", "/admin/analytics/overview"): "viewer",
    ("GET", "/admin/analytics/daily"): "viewer",
    ("GET", "/admin/analytics/products"): "viewer",
    ("GET", "/admin/analytics/agents"): "viewer",
    ("GET", "/admin/analytics/keys"): "viewer",
    ("GET", "/admin/analytics/metered"): "viewer",
    ("GET", "/admin/analytics/models"): "viewer",
    ("GET", "/admin/analytics/users"): "viewer",
    ("GET", "/admin/analytics/cohorts"): "viewer",
    ("GET", "/admin/analytics/margin/overview"): "viewer",
    ("GET", "/admin/analytics/margin/daily"): "viewer",
    ("GET", "/admin/analytics/margin/models"): "viewer",
    ("GET", "/admin/analytics/margin/agents"): "viewer",
    ("GET", "/admin/analytics/margin/tools"): "viewer",
    ("GET", "/admin/analytics/margin/interactions"): "viewer",
    ("GET", "/admin/audit-logs"): "viewer",
    ("GET", "/admin/audit-logs.csv"): "viewer",
    ("GET", "/admin/purchases.csv"): "support",
    ("GET", "/admin/users.csv"): "support",
    ("GET", "/admin/api-keys.csv"): "viewer",
    ("GET", "/admin/config/{section}/settings"): "viewer",
    ("GET", "/admin/admins"): "viewer",
    ("POST", "/admin/admins"): "admin",
    ("PATCH", "/admin/admins/{admin_id}"): "admin",
    ("GET", "/admin/admins/{admin_id}/sessions"): "viewer",
    ("POST", "/admin/admins/{admin_id}/sessions/revoke"): "viewer",
    ("GET", "/admin/config/packs"): "viewer",
    ("PUT", "/admin/config/packs"): "admin",
    ("GET", "/admin/config/products"): "viewer",
    ("PUT", "/admin/config/products"): "admin",
    ("GET", "/admin/config/defaults"): "viewer",
    ("PUT", "/admin/config/defaults"): "admin",
    ("GET", "/admin/config/plans"): "viewer",
    ("PUT", "/admin/config/plans"): "admin",
    ("GET", "/admin/config/one_time_grants"): "viewer",
    ("PUT", "/admin/config/one_time_grants"): "admin",
    ("GET", "/admin/config/refills"): "viewer",
    ("PUT", "/admin/config/refills"): "admin",
    ("GET", "/admin/users/{account_id}/refills"): "viewer",
    ("PUT", "/admin/users/{account_id}/auto-refill"): "support",
    ("POST", "/admin/users/{account_id}/cards/{card_id}/remove"): "support",
    ("GET", "/admin/config/burn_rate"): "viewer",
    ("PUT", "/admin/config/burn_rate"): "admin",
    ("GET", "/admin/config/display_rates"): "viewer",
    ("PUT", "/admin/config/display_rates"): "admin",
    ("GET", "/admin/config/providers"): "viewer",
    ("PUT", "/admin/config/providers/{environment}"): "admin",
    ("POST", "/admin/config/providers/{environment}/test"): "admin",
    ("GET", "/admin/config/{section}/versions"): "viewer",
    ("GET", "/admin/price-books"): "viewer",
    ("GET", "/admin/price-books/{version}"): "viewer",
    ("GET", "/admin/price-books/{version}/rows"): "viewer",
    ("GET", "/admin/price-books/{version}/difference"): "viewer",
    ("POST", "/admin/price-books/{version}/calculate"): "viewer",
    ("POST", "/admin/price-books/import"): "admin",
    ("POST", "/admin/price-books/{version}/confirm"): "admin",
    ("POST", "/admin/price-books/{version}/activate"): "admin",
    ("GET", "/admin/unknown-models"): "viewer",
    ("GET", "/admin/refusals"): "viewer",
    ("GET", "/admin/double-charges"): "viewer",
    ("GET", "/admin/usage/events"): "viewer",
    ("GET", "/admin/usage/events.csv"): "support",
    ("GET", "/admin/usage/events/{account_id}/{usage_id}"): "viewer",
    ("GET", "/admin/usage/sums"): "viewer",
    ("POST", "/admin/config/{section}/reset"): "admin",
    ("GET", "/admin/system"): "viewer",
    ("GET", "/admin/system/jobs"): "viewer",
    ("POST", "/admin/system/jobs/{job_id}/retry"): "admin",
    ("GET", "/admin/system/events"): "viewer",
}
OPEN = {("GET", "/admin/oauth/login"), ("GET", "/admin/oauth/callback")}
BODIES: dict[str, dict[str, object]] = {
    "/admin/users/{account_id}/credits": {"credits": 1, **REASON, "idempotency_key": "k"},
    "/admin/users/{account_id}/free-credits": {"credits": 1, **REASON, "idempotency_key": "k"},
    "/admin/users/{account_id}/billing": {**REASON, "billing_enabled": False},
    "/admin/users/{account_id}/grants": {"credits": 1, **REASON, "idempotency_key": "k"},
    "/admin/users/{account_id}/limits": {**REASON, "window": "day", "unit": "uses", "amount": "1"},
    "/admin/users/{account_id}/erase": {**REASON, "confirm": NOBODY},
    "/admin/api-keys": {"environment": "test", "name": "n", "permissions": ["billing:read"]},
    "/admin/purchases/{purchase_id}/refund": {**REASON, "idempotency_key": "k"},
    "/admin/admins": {"email": "invited@example.com", "role": "viewer"},
    # Of a version that there never is: the answer is 409, and nothing changes.
    "/admin/config/packs": {"version": 9, **REASON, "packs": [{"name": "p", "price_minor": 500, "credits": 1}]},
    "/admin/config/products": {"version": 9, **REASON, "products": []},
    "/admin/config/display_rates": {"version": 9, **REASON, "rates": []},
    "/admin/config/plans": {"version": 9, **REASON, "plans": []},
    "/admin/config/one_time_grants": {"version": 9, **REASON, "currency": "USD"},
    "/admin/config/refills": {"version": 9, **REASON, "currency": "USD"},
    "/admin/users/{account_id}/auto-refill": {**REASON, "enabled": False},
    "/admin/config/burn_rate": {"version": 9, **REASON, "credits_per_minute": None, "money_per_minute": []},
    "/admin/config/defaults": {
        "version": 9,
        **REASON,
        "free_uses": 1,
        "daily_free_uses": 1,
        "plan_name": "p",
        "currency": "USD",
    },
    "/admin/config/providers/{environment}": {"version": 9, **REASON, "publishable_key": "pk_test_123456"},
    "/admin/config/providers/{environment}/test": {},
    "/admin/alert-rules/{rule}": {**REASON, "action": "notify", "threshold": 10, "window_h": 24, "minimum": 200},
    "/admin/price-books/{version}/calculate": {"usage": {"meter": "compute", "cpu_hours": "1"}},
    "/admin/price-books/{version}/confirm": {**REASON, "choices": [{"row": "r"}]},
    "/admin/plans/{name}/withdraw": {"version": 9, **REASON},
    "/admin/config/{section}/reset": {"version": 9, **REASON},
}


def test_the_table_names_every_route(database: Urls) -> None:
    described = create_app(settings_for(database)).openapi()["paths"]
    routes = {
        (method.upper(), path)
        for path, operations in described.items()
        if path.startswith("/admin")
        for method in operations
    }
    assert routes == set(LEAST) | OPEN


async def call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    ids = {"account_id": NOBODY, "key_id": "0" * 16, "purchase_id": NOBODY, "admin_id": NOBODY, "job_id": 7}
    url = path.format(
        **ids,
        alert_id=NOBODY,
        grant_id=NOBODY,
        card_id=NOBODY,
        limit_id=opaque_ids.encode("limit_", uuid.UUID(NOBODY), uuid.UUID(NOBODY)),
        run_uuid=NOBODY,
        subscription_id="sub_1",
        name="standard",
        usage_id=NOBODY,
        approval_id="approval_" + "A" * 43,
        rule="spend_spike",
        environment="live",
        section="packs",
        version=999,
    )
    body = None if method == "GET" else BODIES.get(path, REASON)
    return await client.request(method, url, json=body)


@pytest.mark.parametrize(("method", "path"), LEAST)
async def test_without_a_session_every_route_is_401(
    office: Office, client_for: ClientFor, keys: Keys, method: str, path: str
) -> None:
    """An API key, even one with all permissions, is no session."""
    async with office.client(None) as nobody:
        for headers in ({}, {"X-API-Key": keys.credit}, {"Authorization": f"Bearer {keys.credit}"}):
            nobody.headers.update(headers)
            answer = await call(nobody, method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "admin_unauthorized")
            assert "WWW-Authenticate" in answer.headers


OWN_SESSION = ("POST", "/admin/oauth/logout")
"""For every role; but it would end the session that the other cases need."""


@pytest.mark.parametrize(("route", "role"), [(r, role) for r in LEAST if r != OWN_SESSION for role in ROLES])
async def test_a_route_is_open_to_its_role_and_those_above(office: Office, route: tuple[str, str], role: Role) -> None:
    async with office.client(role) as client:
        answer = await call(client, *route)
    own_only = "sessions" in route[1] and role != "admin"  # another admin's sessions
    if ROLES.index(role) < ROLES.index(LEAST[route]) or own_only:
        assert (answer.status_code, answer.json()["code"]) == (403, "admin_forbidden")
    else:
        assert answer.status_code in (200, 201, 202, 404, 409), answer.text
