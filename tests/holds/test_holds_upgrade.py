"""Holds are opened only when no version runs that cannot read them."""

import httpx
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.db.version_mark import OLDEST
from tests.books import connected
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.holds.test_holds_wire import PATH


async def test_until_the_upgrade_is_finished_holds_are_refused(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", Permission.READ, Permission.WRITE)
    await db.close()
    async with connected(own_database) as connection:
        await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format('0034')}'")
    body = {"oauth_provider": "oauth:google", "external_id": "ann", "amount_minor": 100}
    async with running_app(settings_for(own_database)) as app:
        transport, headers = httpx.ASGITransport(app), {"X-API-Key": key}
        async with httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers) as client:
            refused = await client.post(PATH, json=body)
            assert (refused.status_code, refused.json()["code"]) == (503, "upgrade_in_progress")
            assert int(refused.headers["Retry-After"]) > 0
            async with connected(own_database) as connection:
                await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format('0035')}'")
            assert (await client.post(PATH, json=body)).status_code == 201
