"""The back office in a real browser, on a real server: the walk that `admin-ui/e2e/walk.mjs` describes."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.auth.admins.admins import add_admin
from app.auth.caller import Permission
from app.db import Database
from app.demo import oidc
from app.ledger.entries import Cause, Kind
from app.pricing.book import BookDocument
from app.pricing.editing import Author, propose
from tests.books import connected
from tests.conftest import ACTOR, make_key
from tests.databases import Urls
from tests.servers import free_port, running_server, running_stripe, serving
from tests.support.browser import require_browser, walk
from tests.support.wallets import DOLLAR, locked

ADA = oidc.User("ada", "ada@ciris.ai", "Ada Admin", hd="ciris.ai")
CUSTOMER = {"oauth_provider": "oauth:google", "external_id": "walker@example.com"}


async def bought(server: str, stripe: str, key: str) -> str:
    """A purchase of the customer's, paid and booked: its payment's id."""
    async with httpx.AsyncClient(base_url=server, headers={"X-API-Key": key}, timeout=20) as client:
        sold = (await client.post("/v1/billing/purchases", json=CUSTOMER)).json()
        async with httpx.AsyncClient(base_url=stripe) as stripe_client:
            await stripe_client.post(
                f"/v1/payment_intents/{sold['payment_id']}/confirm",
                data={"client_secret": sold["client_secret"], "payment_method": "pm_card_visa"},
                auth=(sold["publishable_key"], ""),
            )
        status = (await client.get(f"/v1/billing/purchases/{sold['payment_id']}/status")).json()
        assert status["credits_added"] == 20
        return str(sold["payment_id"])


async def with_usage(db: Database) -> None:
    """Propose prices of which one is disputed, and give the customer money for usage."""
    sources = [("first", "1", "3"), ("other", "2.00025", "3")]
    tariffs = [{"prices": {"input_uncached": read, "output_text": written}} for _, read, written in sources]
    other = {"source": "other", "source_version": "2", "tariff": tariffs[1]}
    row = {"id": "mini", "provider": "openai", "model": "mini", **tariffs[0], "source": "first", "others": [other]}
    now = datetime.now(UTC)
    book = BookDocument.model_validate({"name": "prices", "currency": "USD", "llm": [{**row, "status": "disputed"}]})
    async with db.transaction() as tx:
        await propose(tx, book, Author("tests", None, "because", now))
    async with db.read() as session:
        account_id = (await session.exec_driver_sql("SELECT account_id FROM accounts")).scalar_one()
    async with locked(db, account_id, now) as account:
        account.give_money(DOLLAR, Kind.OPENING_GRANT, Cause("account", account_id), ACTOR, now)


async def spent_much(urls: Urls) -> str:
    """An open alert about the customer: its id."""
    async with connected(urls) as connection:
        row = await connection.fetchval(
            """
            INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, usual, threshold, window_h,
                                account_ids, created_at, last_seen_at)
            SELECT gen_random_uuid(), environment, 'spend_spike', account_id, current_date, 900, 12, 10, 24,
                   ARRAY[account_id], now(), now()
              FROM accounts LIMIT 1 RETURNING alert_id
            """
        )
    return str(row)


@pytest.mark.timeout(300)
async def test_an_admin_walks_through_the_back_office(own_database: Urls, tmp_path: Path) -> None:
    require_browser(pages=True)
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    async with db.transaction() as tx:
        await add_admin(tx, ADA.email, "admin", now=datetime.now(UTC))
    port, oidc_port = free_port(), free_port()
    base, issuer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{oidc_port}"
    client = oidc.Client("back-office", None, (f"{base}/admin/oauth/callback",))
    provider = oidc.create_app(issuer=issuer, clients=[client], users=[ADA])
    with running_stripe() as stripe, serving(provider, oidc_port):
        env = {
            **stripe.environment,
            "PUBLIC_URL": base,
            "ADMIN_OAUTH_ISSUER": issuer,
            "ADMIN_OAUTH_CLIENT_ID": client.client_id,
            "ADMIN_SESSION_SECRET": "a secret of the browser's test, long enough",
        }
        with running_server(own_database, port=port, env=env):
            payment_id = await bought(base, stripe.url, key)
            async with db.read() as session:
                purchase_id = (await session.exec_driver_sql("SELECT purchase_id FROM purchases")).scalar_one()
            assert payment_id
            await with_usage(db)
            alert_id = await spent_much(own_database)
            facts = {
                "BASE_URL": base,
                "SIGN_IN_AS": ADA.email,
                "USER": CUSTOMER["external_id"],
                "PURCHASE": str(purchase_id),
                "ALERT": alert_id,
                "API_KEY": key,
            }
            said = await asyncio.to_thread(walk, "walk", tmp_path, timeout_s=240, **facts)
    await db.close()
    assert said.count("done: ") == 22
