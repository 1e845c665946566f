"""Permissions of API keys: each opens its routes, and no others."""

import re
import uuid
from collections.abc import Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.auth.caller import Permission
from app.auth.dependencies import RequireKey
from app.db import Database
from app.main import ROUTERS
from tests.conftest import ClientFor, make_key

ASKING = (
    *("POST /v1/usage/check", "POST /v1/usage/quote", "GET /v1/cost-records/{record_id}"),
    "POST /api/billing/check",
)
"""With either permission of usage."""
OPENED: dict[Permission, tuple[str, ...]] = {
    Permission.READ: (
        *("POST /v1/billing/check", "POST /v1/billing/credits/check", "GET /v1/billing/transactions"),
        *("GET /v1/billing/accounts/by-user", "GET /v1/billing/accounts/{account_id}"),
        "GET /v1/billing/accounts/{oauth_provider}/{external_id:path}",
        "GET /v1/billing/accounts/{account_id:uuid}/events",
        "GET /v1/billing/accounts/{account_id:uuid}/statement",
        *("GET /v1/billing/approvals", "GET /v1/billing/approvals/{approval_id}"),
        *("GET /v1/billing/charges/by-key", "GET /v1/billing/charges/{charge_id}"),
        "GET /v1/billing/charges/{charge_id}/explanation",
        *("GET /v1/billing/holds/{hold_id}", "GET /v1/billing/holds/{hold_id}/explanation"),
        *("GET /v1/billing/grants", "GET /v1/billing/limits", "GET /v1/billing/packs"),
        *("GET /v1/billing/purchases/{payment_id}", "GET /v1/billing/purchases/{payment_id}/status"),
        *("GET /v1/billing/runs", "GET /v1/billing/runs/{run_id:path}"),
        *("GET /v1/tools/balance", "GET /v1/tools/balance/{product_type}", "GET /v1/tools/check/{product_type}"),
    ),
    Permission.WRITE: (
        *("POST /v1/billing/accounts", "POST /v1/billing/charges", "POST /v1/billing/charges/batch"),
        *("POST /v1/billing/holds", "POST /v1/billing/holds/{hold_id}/capture"),
        *("POST /v1/billing/holds/{hold_id}/extend", "POST /v1/billing/holds/{hold_id}/release"),
        *("POST /v1/billing/holds/{hold_id}/report", "POST /v1/billing/litellm/usage", "POST /v1/billing/purchases"),
        *("POST /v1/billing/runs", "PATCH /v1/billing/runs/{run_id:path}", "POST /v1/tools/charge"),
    ),
    Permission.CREDIT: ("POST /v1/billing/credits",),
    Permission.USAGE_READ: (*ASKING, "GET /v1/usage", "GET /v1/usage/events/{event_id:path}"),
    Permission.USAGE_WRITE: (
        *ASKING,
        *("POST /v1/usage", "POST /v1/usage/batch", "POST /v1/usage/compute", "POST /v1/events", "POST /api/v1/events"),
        *("POST /v1/cost-records", "POST /v1/cost-records/{record_id}/items"),
        "POST /v1/cost-records/{record_id}/complete",
    ),
    Permission.USAGE_SET_COST: (),
    Permission.MONEY_CREDIT: (
        *("POST /v1/credits/add", "POST /v1/credits/signup-grant", "POST /v1/credits/daily-grant"),
        *("POST /v1/credits/referral-grant", "POST /v1/billing/grants", "POST /v1/billing/grants/{grant_id}/end"),
    ),
    Permission.LIMITS_WRITE: ("PUT /v1/billing/limits", "DELETE /v1/billing/limits/{limit_id}"),
    Permission.PAYMENTS_REDEEM: (),
}


def _takes_keys(dependant: Dependant) -> bool:
    return isinstance(dependant.call, RequireKey) or any(map(_takes_keys, dependant.dependencies))


def routes_of_keys() -> Iterator[str]:
    """Yield each route that an API key can open."""
    for module in ROUTERS:
        for route in module.router.routes:
            if isinstance(route, APIRoute) and _takes_keys(route.dependant):
                yield from (f"{method} {route.path}" for method in route.methods or ())


ROUTES = sorted(routes_of_keys())


def test_every_permission_and_every_route_of_keys_is_in_the_table() -> None:
    assert set(OPENED) == set(Permission)
    assert sorted({route for routes in OPENED.values() for route in routes}) == ROUTES


@pytest.mark.parametrize("permission", Permission)
async def test_a_permission_opens_its_routes_and_no_others(
    permission: Permission, client_for: ClientFor, db: Database
) -> None:
    client = client_for(await make_key(db, "live", permission))
    opened = []
    for route in ROUTES:
        method, path = route.split(" ")
        address = re.sub(r"\{[^}]+\}", str(uuid.uuid4()), path)
        answer = await client.request(method, address, json=None if method == "GET" else {})
        if answer.status_code == 403 and answer.json()["code"] == "missing_permission":
            continue
        assert answer.status_code not in (401, 403, 405), f"{route}: {answer.text}"
        opened.append(route)
    assert opened == sorted(OPENED[permission])
