"""Signed statements over HTTP: their contents and callers, and that the documented script verifies them offline."""

import asyncio
import json
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from app.accounts.erasure import BOOKS, erase_person, forget_texts
from app.auth.caller import Permission
from app.clock import utc_now
from app.db import Database
from app.issuers import Issuer
from app.main import create_app
from app.receipts.service import STEPS_OF_A_REQUEST
from app.signing_keys import base64url, new_signing_key
from app.verification import verify_books
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.receipts.books import add_many, chain_of, documented_hash, entries_of, expected_chain, write_history
from tests.receipts.conftest import Service, path_of
from tests.receipts.verifier import decoded, encoded, read, script, verify
from tests.servers import serving
from tests.support.invalid_requests import NASTY_QUERIES
from tests.support.signing import SIGNING_KEY

KEYS = "/.well-known/ciris-billing-keys.json"
OWN = "/v1/accounts/me/statement"
RETIRED = {name: value for name, value in SIGNING_KEY.items() if name != "d"}
TYPE = "ciris-billing-statement-v1"
MEMBERS = [
    *("type", "environment", "account_id", "entry_no", "entry_created_at", "chain_hash", "balances"),
    *("issued_at", "key_id"),
]


# --- contents ---------------------------------------------------------------------------------------------------


async def test_a_statement_names_the_balances_after_each_entry(service: Service) -> None:
    account_id, user = await service.account()
    await service.charge(user, 5)
    expected: list[list[dict[str, str]]] = [
        [],
        [{"pool": "free", "unit": "credit", "balance": "3"}],
        [{"pool": "free", "unit": "credit", "balance": "3"}, {"pool": "paid", "unit": "credit", "balance": "10"}],
        [{"pool": "paid", "unit": "credit", "balance": "10"}],
        [{"pool": "paid", "unit": "credit", "balance": "8"}],
    ]
    hashes = ["0" * 64, *(link.hex() for link in await expected_chain(service.urls, account_id))]
    entries = await entries_of(service.urls, account_id)
    for entry_no, balances in enumerate(expected):
        said = await service.statement(account_id, entry_no=entry_no)
        assert list(said) == MEMBERS
        assert said["balances"] == balances
        assert (said["type"], said["environment"], said["account_id"]) == (TYPE, "live", str(account_id))
        assert (said["entry_no"], said["chain_hash"]) == (str(entry_no), hashes[entry_no])
        at = entries[entry_no - 1]["created_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ") if entry_no else None
        assert said["entry_created_at"] == at
        assert said["key_id"] == SIGNING_KEY["kid"]
    newest = await service.statement(account_id)
    assert {**newest, "issued_at": ""} == {**await service.statement(account_id, entry_no=4), "issued_at": ""}


async def test_money_grants_and_products_are_exact_texts(service: Service) -> None:
    account_id = await write_history(service.urls, f"{uuid.uuid4()}@example.com")
    (grant,) = await service.rows("SELECT grant_id FROM grants WHERE account_id = $1 AND unit = 'USD'", account_id)
    said = await service.statement(account_id)
    assert said["balances"] == [
        {"pool": "debt", "unit": "credit", "balance": "6"},
        {"pool": "grant", "grant_id": str(grant["grant_id"]), "unit": "USD", "balance": "4.000000"},
        {"pool": "money", "unit": "USD", "balance": "12.345678901"},
        {"pool": "web_search/free", "unit": "credit", "balance": "9"},
        {"pool": "web_search/paid", "unit": "credit", "balance": "2"},
    ]


async def test_a_hold_is_in_its_pool(service: Service) -> None:
    account_id, user = await service.account()
    hold = {"oauth_provider": "oauth:google", "external_id": user, "amount_minor": 500}
    assert (await service.clients["writer"].post("/v1/billing/holds", json=hold)).status_code == 201
    said = await service.statement(account_id)
    assert said["balances"] == [
        {"pool": "held", "unit": "credit", "balance": "5"},
        {"pool": "paid", "unit": "credit", "balance": "8"},
    ]


async def test_a_statement_stays_the_same_after_later_entries_and_after_erasure(service: Service) -> None:
    account_id, user = await service.account()
    before = await service.statement(account_id)
    await service.charge(user, 1)
    db = Database(SecretStr(service.urls.service))
    async with db.transaction() as tx:
        assert await erase_person(tx, account_id, utc_now()) == "live"
    await forget_texts(db, account_id, BOOKS)
    after = await service.statement(account_id, entry_no=before["entry_no"])
    assert {**after, "issued_at": ""} == {**before, "issued_at": ""}
    verification = await verify_books(db, utc_now())
    assert verification.ok, verification.problem
    await db.close()


# --- callers ----------------------------------------------------------------------------------------------------


async def test_a_user_gets_the_own_statement(service: Service) -> None:
    account_id, user = await service.account()
    person = await service.person(user)
    answer = await person.get(OWN)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["statement"]
    assert answer.headers["Cache-Control"] == "no-store"
    said = read(answer.json()["statement"])
    assert (said["account_id"], said["entry_no"]) == (str(account_id), "2")
    first = await person.get(OWN, params={"entry_no": 1})
    assert read(first.json()["statement"])["entry_no"] == "1"
    beyond = await person.get(OWN, params={"entry_no": 3})
    assert (beyond.status_code, beyond.json()["code"], beyond.json()["error"]["code"]) == (
        404,
        "entry_not_found",
        "not_found",
    )


async def test_a_token_gets_no_other_users_statement(service: Service) -> None:
    """Whatever user the query names, and not by the route of API keys."""
    (account_id, user), (other_id, other) = [await service.account() for _ in range(2)]
    person = await service.person(user)
    names = {"oauth_provider": "oauth:google", "external_id": other, "user_id": other, "account_id": str(other_id)}
    answer = await person.get(OWN, params=names)
    assert read(answer.json()["statement"])["account_id"] == str(account_id)
    refused = await person.get(path_of(other_id))
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")


async def test_a_user_without_an_account_gets_none(service: Service) -> None:
    person = await service.person(f"{uuid.uuid4()}@example.com")
    answer = await person.get(OWN)
    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
    assert (await person.get(OWN)).status_code == 404


async def test_suspended_and_closed_accounts_have_statements(service: Service) -> None:
    for status, reason in (("suspended", "because"), ("closed", None)):
        account_id, _ = await service.account()
        await service.rows(
            "UPDATE accounts SET status = $2, status_reason = $3 WHERE account_id = $1 RETURNING 1",
            account_id,
            status,
            reason,
        )
        assert (await service.statement(account_id))["entry_no"] == "2"


async def test_other_callers_are_refused(service: Service) -> None:
    account_id, _ = await service.account()
    expected = {
        "keyless": (401, "unauthorized"),
        "without": (403, "missing_permission"),
        "other": (404, "account_not_found"),
    }
    for name, answer_expected in expected.items():
        answer = await service.clients[name].get(path_of(account_id))
        assert (answer.status_code, answer.json()["code"]) == answer_expected
    answer = await service.clients["keyless"].get(OWN)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    unknown = await service.clients["reader"].get(path_of(uuid.uuid4()))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "account_not_found")


async def test_a_statement_says_of_which_environment_its_account_is(service: Service) -> None:
    """One user has an account in each."""
    account_id, user = await service.account()
    db = Database(SecretStr(service.urls.service))
    key = await make_key(db, "test", Permission.READ, Permission.WRITE)
    await db.close()
    client = await service.client(**{"X-API-Key": key})
    body = {"oauth_provider": "oauth:google", "external_id": user}
    made = UUID((await client.post("/v1/billing/accounts", json=body)).json()["account_id"])
    said = read((await client.get(path_of(made))).json()["statement"])
    assert (said["environment"], said["account_id"]) == ("test", str(made))
    assert (await service.statement(account_id))["environment"] == "live"
    assert (await service.clients["reader"].get(path_of(made))).status_code == 404


@pytest.mark.parametrize("entry_no", ["-1", str(2**63), "1.5", "x", "", "9" * 400, "1\0"])
async def test_an_entry_number_is_a_number_of_64_bits(service: Service, entry_no: str) -> None:
    account_id, _ = await service.account()
    answer = await service.clients["reader"].get(path_of(account_id), params={"entry_no": entry_no})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["query", "entry_no"]


async def test_any_other_query_is_answered_or_refused(service: Service) -> None:
    account_id, _ = await service.account()
    reader = service.clients["reader"]
    for value in NASTY_QUERIES:
        answer = await reader.get(path_of(account_id), params={"entry_no": value})
        assert answer.status_code in (200, 404, 422), (value, answer.text)
    for query in ("entry_no=1&entry_no=x", "entry_no=%ff%fe%ED%A0%80", "entry_no=%00"):
        assert (await reader.get(f"{path_of(account_id)}?{query}")).status_code == 422, query


async def test_an_entry_beyond_the_last_one_is_not_found(service: Service) -> None:
    account_id, _ = await service.account()
    for entry_no in (3, 2**63 - 1):
        answer = await service.clients["reader"].get(path_of(account_id), params={"entry_no": entry_no})
        assert (answer.status_code, answer.json()["code"]) == (404, "entry_not_found")


# --- the chain on demand ----------------------------------------------------------------------------------------


async def test_a_request_hashes_what_the_account_lacks(service: Service) -> None:
    account_id, _ = await service.account()
    await add_many(service.urls, account_id, 1500)
    assert await chain_of(service.urls, account_id) == []
    assert (await service.statement(account_id))["entry_no"] == "1502"
    assert await chain_of(service.urls, account_id) == await expected_chain(service.urls, account_id)


async def test_requests_for_a_long_backlog_are_bounded_and_come_to_an_end(service: Service) -> None:
    account_id, _ = await service.account()
    await add_many(service.urls, account_id, (STEPS_OF_A_REQUEST + 1) * 1000)
    reader = service.clients["reader"]
    behind = await reader.get(path_of(account_id))
    assert (behind.status_code, behind.json()["code"]) == (503, "statement_not_ready")
    assert int(behind.headers["Retry-After"]) > 0
    assert len(await chain_of(service.urls, account_id)) == STEPS_OF_A_REQUEST * 1000
    answers = await asyncio.gather(*(reader.get(path_of(account_id)) for _ in range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({read(answer.json()["statement"])["chain_hash"] for answer in answers}) == 1


async def test_requests_and_charges_at_once_agree(service: Service) -> None:
    """Every statement has the hash of its entry, also when charges run at the same time."""
    account_id, user = await service.account()
    charging = [service.charge(user, 1) for _ in range(10)]
    said = await asyncio.gather(*(service.statement(account_id) for _ in range(20)), *charging)
    hashes = [link.hex() for link in await expected_chain(service.urls, account_id)]
    for statement in said[:20]:
        assert statement is not None
        assert statement["chain_hash"] == hashes[int(statement["entry_no"]) - 1]


# --- signatures -------------------------------------------------------------------------------------------------


async def fetched(service: Service, tmp_path: Path) -> tuple[UUID, bytes, bytes]:
    account_id, _ = await service.account()
    answer = await service.clients["reader"].get(path_of(account_id))
    keys = await service.clients["keyless"].get(KEYS)
    assert (answer.status_code, keys.status_code) == (200, 200)
    return account_id, answer.content, keys.content


async def test_the_documented_script_verifies_a_statement(service: Service, tmp_path: Path) -> None:
    assert len([line for line in script().splitlines() if line]) == 10
    account_id, answer, keys = await fetched(service, tmp_path)
    done = verify(tmp_path, answer, keys)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == await service.statement(account_id) | {
        "issued_at": json.loads(done.stdout)["issued_at"]
    }


Parts = tuple[dict[str, Any], dict[str, Any], str]
ALTERED: dict[str, Callable[[Parts], Parts]] = {
    "balance": lambda parts: (
        parts[0],
        {**parts[1], "balances": [{**parts[1]["balances"][0], "balance": "1000"}]},
        parts[2],
    ),
    "environment": lambda parts: (parts[0], {**parts[1], "environment": "test"}, parts[2]),
    "account": lambda parts: (parts[0], {**parts[1], "account_id": str(uuid.uuid4())}, parts[2]),
    "type": lambda parts: (parts[0], {**parts[1], "type": "ciris-billing-statement-v2"}, parts[2]),
    "type of the signature": lambda parts: ({**parts[0], "typ": "JWT"}, parts[1], parts[2]),
    "entry": lambda parts: (parts[0], {**parts[1], "entry_no": "3"}, parts[2]),
    "hash": lambda parts: (parts[0], {**parts[1], "chain_hash": "0" * 64}, parts[2]),
    "algorithm": lambda parts: ({**parts[0], "alg": "none"}, parts[1], ""),
    "key": lambda parts: ({**parts[0], "kid": "another"}, parts[1], parts[2]),
    "signature": lambda parts: (parts[0], parts[1], ("B" if parts[2][0] == "A" else "A") + parts[2][1:]),
}


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
async def test_the_documented_script_refuses_an_altered_statement(
    service: Service, tmp_path: Path, change: Callable[[Parts], Parts]
) -> None:
    _, answer, keys = await fetched(service, tmp_path)
    header, payload, signature = json.loads(answer)["statement"].split(".")
    assert (encoded(decoded(header)), encoded(decoded(payload))) == (header, payload)
    changed = change((decoded(header), decoded(payload), signature))
    forged = f"{encoded(changed[0])}.{encoded(changed[1])}.{changed[2]}"
    done = verify(tmp_path, json.dumps({"statement": forged}).encode(), keys)
    assert done.returncode != 0
    assert done.stdout == ""


async def test_the_signed_bytes_begin_with_the_type(service: Service, tmp_path: Path) -> None:
    _, answer, _ = await fetched(service, tmp_path)
    header = json.loads(answer)["statement"].split(".")[0]
    assert header.startswith(encoded({"typ": TYPE})[:44])
    assert list(decoded(header)) == ["typ", "alg", "kid"]


async def test_a_signature_of_another_type_is_no_statement(service: Service, tmp_path: Path) -> None:
    """By the same key, which may sign something else one day."""
    _, _, keys = await fetched(service, tmp_path)
    private = settings_for(service.urls, signing_keys=[SIGNING_KEY]).signing_keys[0].private_key()
    for typ, said in (("other-v1", TYPE), (TYPE, "other-v1"), ("other-v1", "other-v1")):
        signed = f"{encoded({'typ': typ, 'alg': 'EdDSA', 'kid': SIGNING_KEY['kid']})}.{encoded({'type': said})}"
        signature = base64url(private.sign(signed.encode()))
        done = verify(tmp_path, json.dumps({"statement": f"{signed}.{signature}"}).encode(), keys)
        assert done.returncode != 0
        assert "no statement" in done.stderr


# --- keys -------------------------------------------------------------------------------------------------------


async def test_keys_are_public_and_cacheable(service: Service) -> None:
    answer = await service.clients["keyless"].get(KEYS)
    assert answer.json() == {"keys": [{**RETIRED, "use": "sig", "alg": "EdDSA"}]}
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert SIGNING_KEY["d"] not in answer.text
    assert (await service.clients["keyless"].head(KEYS)).status_code == 200


async def test_rotation_keeps_old_statements_valid(service: Service, issuers: list[Issuer], tmp_path: Path) -> None:
    """First both keys are published, then the new one signs, then the old one is retired: each step verifies all."""
    account_id, _ = await service.account()
    new = new_signing_key()
    steps = ([SIGNING_KEY, new], [new, SIGNING_KEY], [new, RETIRED], [RETIRED, new])
    headers = {"X-API-Key": service.clients["reader"].headers["X-API-Key"]}
    old = (await service.clients["reader"].get(path_of(account_id))).content
    signers = []
    for keys in steps:
        with serving(create_app(settings_for(service.urls, issuers=issuers, signing_keys=keys))) as url:
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
                published = (await client.get(KEYS)).content
                fresh = (await client.get(path_of(account_id))).content
        assert [key["kid"] for key in json.loads(published)["keys"]] == [key["kid"] for key in keys]
        for statement in (old, fresh):
            done = verify(tmp_path, statement, published)
            assert done.returncode == 0, done.stderr
        signers.append(read(json.loads(fresh)["statement"])["key_id"])
    assert signers == [SIGNING_KEY["kid"], new["kid"], new["kid"], new["kid"]]


@pytest.mark.parametrize("keys", [[], [RETIRED]], ids=["none", "retired ones"])
async def test_without_a_key_to_sign_with_there_is_no_statement(
    service: Service, issuers: list[Issuer], keys: list[dict[str, str]]
) -> None:
    account_id, user = await service.account()
    async with AsyncExitStack() as stack:
        url = stack.enter_context(serving(create_app(settings_for(service.urls, issuers=issuers, signing_keys=keys))))
        headers = {"X-API-Key": service.clients["reader"].headers["X-API-Key"]}
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers, timeout=30))
        person = await service.person(user, url)
        for answer in (await client.get(path_of(account_id)), await person.get(OWN)):
            assert (answer.status_code, answer.json()["code"]) == (503, "signing_not_configured")
            assert int(answer.headers["Retry-After"]) > 0
        published = await client.get(KEYS)
        assert [key["kid"] for key in published.json()["keys"]] == [key["kid"] for key in keys]


async def test_the_hash_is_that_of_the_entry(service: Service) -> None:
    account_id, _ = await service.account()
    entry = (await entries_of(service.urls, account_id))[0]
    said = await service.statement(account_id, entry_no=1)
    assert said["chain_hash"] == documented_hash(entry, bytes(32)).hex()
    async with connected(service.urls) as connection:
        stored = await connection.fetchval(
            "SELECT hash FROM ledger_chain WHERE account_id = $1 AND entry_no = 1", account_id
        )
    assert said["chain_hash"] == stored.hex()
