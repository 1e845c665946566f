"""Error reports to Sentry: the error, its place and our ids of the request; nothing that a caller wrote."""

import asyncio
import contextlib
import gzip
import http.server
import json
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.observability import sentry
from tests.books import connected
from tests.conftest import make_key
from tests.databases import Urls
from tests.servers import running_server

MARK = f"zq{secrets.token_hex(6)}"
USER = {"oauth_provider": "oauth:google", "external_id": MARK, "customer_email": f"{MARK}@example.com"}
REFUSE_BY_QUOTING = """
    CREATE FUNCTION quote_it() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no room for %', NEW; END $$;
    CREATE TRIGGER quote_it BEFORE INSERT ON account_identities FOR EACH ROW EXECUTE FUNCTION quote_it();
"""


@contextlib.contextmanager
def receiving() -> Iterator[tuple[str, list[bytes]]]:
    """A DSN, and the envelopes that came to it."""

    class Receiver(http.server.BaseHTTPRequestHandler):
        envelopes: ClassVar[list[bytes]] = []

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.envelopes.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://public@127.0.0.1:{server.server_port}/1", Receiver.envelopes
    finally:
        server.shutdown()
        server.server_close()


def event_of(envelope: bytes) -> dict[str, Any]:
    """The first item's payload."""
    event: dict[str, Any] = json.loads(envelope.split(b"\n")[2])
    return event


async def test_an_error_is_reported_without_what_the_caller_sent(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    async with connected(own_database) as connection:
        await connection.execute(REFUSE_BY_QUOTING)
    with receiving() as (dsn, envelopes):
        with running_server(own_database, env={"SENTRY_DSN": dsn}) as server:
            headers = {"X-API-Key": key, "Cookie": MARK, "User-Agent": MARK, "X-Request-ID": "this-request"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
                path = f"/v1/billing/credits/check?email={MARK}"
                assert (await client.post(path, json=USER)).status_code == 500
                assert (await client.post("/v1/billing/credits/check", json={})).status_code == 422  # no error of ours
        deadline = time.monotonic() + 60
        while not envelopes:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert len(envelopes) == 1
    assert not any(secret.encode() in envelopes[0] for secret in (MARK, key, key.rsplit("_", 1)[1]))
    event = event_of(envelopes[0])
    assert set(event) <= sentry.SENT
    assert event["message"] == "unhandled_error"
    assert event["environment"] == "development"
    assert event["tags"] == {"request_id": "this-request", "key_id": key.split("_")[2]}
    last = event["exception"]["values"][-1]
    assert last["value"] == "RaiseError: [P0001]"
    assert any(frame["function"] == "find_or_create" and frame["in_app"] for frame in last["stacktrace"]["frames"])
    assert all("vars" not in frame for frame in last["stacktrace"]["frames"])


def test_what_the_sdk_adds_of_itself_is_left_out() -> None:
    extra: Any = {"message": "m", "user": {"email": MARK}, "request": {"data": MARK}, "extra": {}, "breadcrumbs": {}}
    assert sentry._only_what_may_be_sent(extra, {}) == {"message": "m"}


def test_a_wrong_address_is_refused_by_name_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="SENTRY_DSN") as refused:
        sentry.start_reporting(f"{MARK}", environment="e", release="r")
    assert MARK not in str(refused.value)
