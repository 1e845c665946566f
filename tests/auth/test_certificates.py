"""A key bound to a client certificate works with that certificate, as a trusted proxy names it, and not else."""

from ipaddress import ip_network

import httpx
import pytest

from tests.auth.conftest import MakeKey, Process, StartProcess

PROXY, STRANGER = "10.0.0.1", "203.0.113.5"
SUBJECT = "CN=Agent Müller\\, 7,O=Example"
Headers = list[tuple[bytes, bytes]]


@pytest.fixture
async def behind_proxy(start_process: StartProcess) -> Process:
    return await start_process(trusted_proxies=[ip_network("10.0.0.0/8")])


def saying(*subjects: str) -> Headers:
    return [(b"x-client-subject", subject.encode()) for subject in subjects]


async def ask(process: Process, key: str, headers: Headers, address: str) -> httpx.Response:
    client = await process.client(key, address=address)
    return await client.get("/read", headers=[*client.headers.raw, *headers])


async def test_a_bound_key_works_with_its_certificate(behind_proxy: Process, make_key: MakeKey) -> None:
    key = await make_key(client_subject=SUBJECT)
    answer = await ask(behind_proxy, key.secret_text, saying(SUBJECT), PROXY)
    assert (answer.status_code, answer.json()["actor"]) == (200, ["api_key", key.key_id])


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], PROXY),
        (saying(""), PROXY),
        (saying("CN=agent-8,O=Example"), PROXY),
        (saying(SUBJECT.lower()), PROXY),
        (saying(SUBJECT + ",C=DE"), PROXY),
        (saying(SUBJECT, SUBJECT), PROXY),
        (saying("CN=agent-8", SUBJECT), PROXY),
        ([(b"x-client-subject", b"\xff\xfe")], PROXY),
        ([(b"x_client_subject", SUBJECT.encode())], PROXY),
        (saying(SUBJECT), STRANGER),
        ([*saying(SUBJECT), (b"x-forwarded-for", PROXY.encode())], STRANGER),
        (saying(SUBJECT), "no address"),
    ],
)
async def test_without_it_a_bound_key_is_refused(
    headers: Headers, address: str, behind_proxy: Process, make_key: MakeKey
) -> None:
    key = await make_key(client_subject=SUBJECT)
    answer = await ask(behind_proxy, key.secret_text, headers, address)
    assert (answer.status_code, answer.json()["code"]) == (403, "client_certificate_required")
    assert SUBJECT not in answer.text


async def test_without_trusted_proxies_a_bound_key_never_works(process: Process, make_key: MakeKey) -> None:
    key = await make_key(client_subject=SUBJECT)
    assert (await ask(process, key.secret_text, saying(SUBJECT), PROXY)).status_code == 403


async def test_a_certificate_replaces_no_key(behind_proxy: Process, make_key: MakeKey) -> None:
    key = await make_key(client_subject=SUBJECT)
    wrong = key.secret_text[:-1] + ("a" if key.secret_text[-1] != "a" else "b")
    assert (await ask(behind_proxy, wrong, saying(SUBJECT), PROXY)).status_code == 401


async def test_an_unbound_key_needs_none_and_minds_none(behind_proxy: Process, make_key: MakeKey) -> None:
    key = await make_key()
    for headers in ([], saying(SUBJECT)):
        assert (await ask(behind_proxy, key.secret_text, headers, PROXY)).status_code == 200
