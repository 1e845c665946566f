"""Usage events are written only when no version runs that cannot read them."""

import httpx
from pydantic import SecretStr

from app.db import Database
from app.db.version_mark import OLDEST
from tests.books import connected
from tests.conftest import make_usage_key, running_app, settings_for
from tests.databases import Urls
from tests.metering.conftest import ALL, EXPENSIVE, usage


async def test_until_the_upgrade_is_finished_usage_is_refused_and_nothing_is_written(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    key = await make_usage_key(db, EXPENSIVE, "live", *ALL)
    await db.close()
    async with connected(own_database) as connection:
        await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format('0027')}'")
    async with running_app(settings_for(own_database)) as app:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://billing", headers={"X-API-Key": key}
        ) as client:
            event = usage("ann", "e", cost_cents=0)
            cloud_event = {"id": "e", "source": "s", "type": "sms", "subject": "ann", "specversion": "1.0"}
            for path, body in (
                ("/v1/usage", event),
                ("/v1/usage/batch", {"events": [event]}),
                ("/v1/events", cloud_event),
            ):
                answer = await client.post(path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "upgrade_in_progress"), path
                assert int(answer.headers["Retry-After"]) > 0
            check = await client.post("/v1/usage/check", json={"user_id": "ann", "required_cents": 0})
            assert check.status_code == 200
            async with connected(own_database) as connection:
                assert await connection.fetchval("SELECT count(*) FROM usage_events") == 0
                await connection.execute(f"COMMENT ON TABLE alembic_version IS '{OLDEST.format('0028')}'")
            assert (await client.post("/v1/usage", json=event)).status_code == 200
