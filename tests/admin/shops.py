"""A shop with a back office: purchases through the local Stripe, and admins who look after them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx

from app.auth.admins.admins import Role, add_admin
from tests.admin.conftest import DOMAIN, SECRET
from tests.conftest import running_app, settings_for
from tests.databases import Urls
from tests.payments.conftest import Shop
from tests.servers import running_stripe


@asynccontextmanager
async def open_shop(urls: Urls, **changes: object) -> AsyncIterator[Shop]:
    """With a Stripe for the live environment and none for the other."""
    with running_stripe() as local:
        values: dict[str, object] = {
            "stripe_live": local.keys,
            "stripe_api_base": local.url,
            "stripe_timeout_s": 20,  # no test waits for it, and a busy machine is slow
            "request_timeout_s": 30,
            "free_uses": 0,
            "admin_session_secret": SECRET,
        }
        settings = settings_for(urls, **{**values, **changes})
        async with running_app(settings) as app, httpx.AsyncClient(timeout=30) as http:
            yield Shop(app, urls, settings, local, http)


async def sign_in(shop: Shop, role: Role) -> httpx.AsyncClient:
    """A script's client of `role`@DOMAIN."""
    async with shop.db.transaction() as tx:
        now = datetime.now(UTC)
        await add_admin(tx, f"{role}@{DOMAIN}", role, now=now)
        token = await shop.app.state.admin_sessions.open_for_script(tx, f"{role}@{DOMAIN}", now=now)
    transport, headers = httpx.ASGITransport(shop.app), {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
