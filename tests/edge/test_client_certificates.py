"""Mutual TLS as docs/deployment-edge.md tells how to set it up, with the real openssl and the real Caddy."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from app.auth.api_keys.keys import NewKey
from app.auth.api_keys.service import update_key
from app.auth.caller import Permission
from app.db import Database
from tests.auth.conftest import MakeKey
from tests.auth.conftest import make_key as make_key  # a fixture
from tests.edge.caddy import SITE, Edge, running_caddy
from tests.edge.test_routes import checking_with_trailers, raw

SUBJECT = "CN=agent-7,O=Example"
QUERY = {"oauth_provider": "oauth:google", "external_id": "mtls@example.com"}
CHANGES_SPREAD_IN_S = 1.0


def sign(folder: Path, name: str, subject: str, ca: str = "client-ca") -> None:
    """A certificate as the page makes one, with another subject or by another CA."""
    key = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    command = f"""
        test -f {ca}.crt || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
            -subj "/CN=Another CA" -keyout {ca}.key -out {ca}.crt
        {key} -subj "{subject}" -keyout {name}.key -out {name}.csr
        openssl x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days 1 -extfile client.ext \
            -out {name}.crt
    """
    subprocess.run(["bash", "-eu", "-c", command], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def folder(client_ca: Path) -> Path:
    """The page's certificates, one of a second agent, and a forged one: the right subject by another CA."""
    sign(client_ca.parent, "agent-8", "/O=Example/CN=agent-8")
    sign(client_ca.parent, "forged", "/O=Example/CN=agent-7", ca="another-ca")
    return client_ca.parent


@pytest.fixture(scope="module")
def edge(api: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    env = {"CLIENT_CERTIFICATES": "optional", "CLIENT_CA_FILE": str(folder / "client-ca.crt")}
    with running_caddy([api], tmp_path_factory.mktemp("optional"), env) as edge:
        yield edge


@pytest.fixture
async def bound(make_key: MakeKey) -> NewKey:
    return await make_key({Permission.READ}, client_subject=SUBJECT)


def shown(edge: Edge, folder: Path, name: str | None) -> ssl.SSLContext:
    return edge.tls() if name is None else edge.tls(folder / f"{name}.crt", folder / f"{name}.key")


async def ask(
    edge: Edge, key: str, tls: ssl.SSLContext, headers: dict[str, str] | None = None, path: str = "transactions"
) -> httpx.Response:
    async with edge.client(key, tls=tls) as client:
        return await client.get(f"/v1/billing/{path}", params=QUERY, headers=headers)


def test_the_page_tells_the_subject_as_it_is_passed_on(folder: Path) -> None:
    assert (folder / "printed").read_text().splitlines()[-1] == f"subject={SUBJECT}"


async def test_a_bound_key_works_with_its_certificate_and_no_other(edge: Edge, folder: Path, bound: NewKey) -> None:
    for name, status in (("agent-7", 200), ("agent-8", 403), (None, 403)):
        for headers in ({}, {"X-Client-Subject": SUBJECT}, {"x-client-subject": SUBJECT, "X_Client_Subject": SUBJECT}):
            answer = await ask(edge, bound.secret_text, shown(edge, folder, name), headers)
            assert answer.status_code == status, (name, headers)
            if status == 403:
                assert answer.json()["code"] == "client_certificate_required"


async def test_nobody_names_a_certificate_in_a_trailer(edge: Edge, bound: NewKey) -> None:
    answer = await raw(edge, checking_with_trailers(bound.secret_text))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"client_certificate_required" in answer


async def test_a_certificate_of_another_ca_gets_no_connection(edge: Edge, folder: Path, bound: NewKey) -> None:
    with pytest.raises((httpx.TransportError, ssl.SSLError)):  # in TLS 1.3 the refusal comes with the first answer
        await ask(edge, bound.secret_text, shown(edge, folder, "forged"))


async def test_past_the_edge_nobody_is_believed(api: str, bound: NewKey) -> None:
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    headers = {"X-API-Key": bound.secret_text, "X-Client-Subject": SUBJECT}
    async with httpx.AsyncClient(transport=transport, base_url=api, headers=headers) as client:
        answer = await client.get("/v1/billing/transactions", params=QUERY)
    assert (answer.status_code, answer.json()["code"]) == (403, "client_certificate_required")


async def test_a_stolen_certificate_is_taken_back_by_binding_the_key_to_a_new_one(
    edge: Edge, folder: Path, bound: NewKey, db: Database
) -> None:
    stolen, new = shown(edge, folder, "agent-7"), shown(edge, folder, "agent-8")
    assert (await ask(edge, bound.secret_text, stolen)).status_code == 200
    async with db.transaction() as tx:
        await update_key(tx, bound.key_id, client_subject="CN=agent-8,O=Example", now=datetime.now(UTC))
    await asyncio.sleep(CHANGES_SPREAD_IN_S)
    assert (await ask(edge, bound.secret_text, stolen)).status_code == 403
    assert (await ask(edge, bound.secret_text, new)).status_code == 200


@pytest.fixture
async def strict(api: str, folder: Path, tmp_path: Path) -> AsyncIterator[Edge]:
    env = {"CLIENT_CERTIFICATES": "required", "CLIENT_CA_FILE": str(folder / "client-ca.crt")}
    with running_caddy([api], tmp_path, env) as edge:
        yield edge


async def test_where_certificates_are_required_only_stripe_and_the_back_office_come_without(
    strict: Edge, folder: Path, bound: NewKey
) -> None:
    async with strict.client(bound.secret_text) as client:
        refused = await client.get("/v1/billing/transactions", params=QUERY)
        assert (refused.status_code, refused.json()["code"]) == (403, "client_certificate_required")
        assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
        sneaking = await client.get("/v1/billing/webhooks/../transactions", params=QUERY)
        assert sneaking.status_code == 403
        webhook = await client.post("/v1/billing/webhooks/stripe", content=b"{}")
        assert (webhook.status_code, webhook.json()["code"]) != (403, "client_certificate_required")
        assert (await client.get("/admin/users")).status_code == 401
        assert (await client.get("/health")).status_code == 200
    with_it = shown(strict, folder, "agent-7")
    assert (await ask(strict, bound.secret_text, with_it)).status_code == 200


async def test_the_site_named_in_the_handshake_is_the_one_that_is_asked(edge: Edge, folder: Path) -> None:
    """Or a site without client certificates would open the door to this one."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", edge.port, ssl=shown(edge, folder, "agent-7"), server_hostname=SITE
    )
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: another.example\r\nConnection: close\r\n\r\n")
    assert b" 421 " in (await reader.read()).splitlines()[0]
    writer.close()
