"""Searching people by any of their words, before and after the worker has read them, and spellings of one person."""

import asyncio
import unicodedata
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from app.accounts import search, search_queries
from app.accounts.directory import Identity, Profile
from app.accounts.erasure import erase_person
from app.accounts.search import refresh_search, words_of
from app.db import Database
from tests.admin.conftest import Office
from tests.admin.test_users import found, open_account
from tests.books import connected
from tests.conftest import ACTOR, running_app, settings_for
from tests.databases import Urls

SPELLINGS = "/admin/users/spellings"
NFC, NFD = "J\u00fcrgen", unicodedata.normalize("NFD", "J\u00fcrgen")


@pytest.fixture(params=["new", "read by the worker"])
def read(request: pytest.FixtureRequest, office: Office, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whether the worker has read the accounts: then nothing is left to be matched by the search itself."""

    async def run() -> None:
        if request.param != "new":
            await refresh_search(office.db, datetime.now(UTC))
            monkeypatch.setattr("app.admin.users.search.MAX_RECENT", 0)

    return run


@pytest.mark.parametrize(
    ("field", "stored", "searched"),
    [
        ("display_name", "Anna Maria {mark}schmidt", "{mark}sch"),
        ("display_name", "Anna {mark}maria Schmidt", "anna {mark}maria schmidt"),
        ("display_name", "Anna {mark}maria Schmidt", "SCHMIDT {mark}MARIA"),
        ("display_name", "{mark}-Luc O'Neil", "{mark} neil"),
        ("display_name", NFD + " {mark}", NFC + " {mark}"),
        ("display_name", NFC + " {mark}", NFD.upper() + " {mark}"),
        ("display_name", "STRASSE {mark}", "stra\u00dfe {mark}"),
        ("display_name", "\uff21\uff4e\uff4e {mark}", "ann {mark}"),
        ("display_name", "\u5c71\u7530 {mark}\u592a\u90ce", "{mark}\u592a"),
        ("customer_email", "ann.{mark}@example.com", "{mark}@ex"),
        ("customer_email", "ann@{mark}.example.com", "{mark}"),
        ("external_id", "user/{mark}:7", "{mark}"),
        ("external_id", "first_{mark}", "{mark}"),
    ],
)
async def test_any_word_finds_the_person(
    office: Office, viewer: httpx.AsyncClient, read: Any, field: str, stored: str, searched: str
) -> None:
    mark = f"m{uuid.uuid4().hex[:12]}"
    fields: dict[str, Any] = {field: stored.format(mark=mark)}
    account_id = await open_account(office, **fields)
    await read()
    assert await found(viewer, search=searched.format(mark=mark)) == {account_id}
    assert await found(viewer, search=f"{mark}zzz") == set()
    assert await found(viewer, search=f"zzz {mark}") == set()  # every word must match


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\u00a0", "\u200b", "\ufeff", "\u2060", "\u3000", "\u2028"])
async def test_blanks_around_pasted_text_are_ignored(office: Office, support: httpx.AsyncClient, blank: str) -> None:
    mark = f"p{uuid.uuid4().hex}"
    account_id = await open_account(office, f"{mark}@example.com", plan_name=f"plan {mark}")
    for pasted in (f"{blank}{mark}@example.com{blank}", f"{mark}@example.com{blank}{blank}", f"{blank}{account_id}"):
        assert await found(support, search=pasted) == {account_id}
        assert str(account_id) in (await support.get("/admin/users.csv", params={"search": pasted})).text
    assert await found(support, plan_name=f"{blank}plan {mark}{blank}") == {account_id}
    entries = await support.get(
        "/admin/audit-logs", params={"target_id": f"{blank}users", "target_type": f"list{blank}"}
    )
    assert entries.json()["entries"], entries.text
    only_blanks = await support.get("/admin/users", params={"search": blank * 3})
    assert only_blanks.status_code == 422


async def test_changed_names_are_found_and_old_ones_are_not(office: Office, viewer: httpx.AsyncClient) -> None:
    mark = f"c{uuid.uuid4().hex}"
    account_id = await open_account(office, display_name=f"Ann {mark}old")
    await refresh_search(office.db, datetime.now(UTC))
    directory = office.app.state.accounts.directory
    await directory.record_profile(account_id, Profile(display_name=f"Ann {mark}new"), datetime.now(UTC))
    assert await found(viewer, search=f"{mark}new") == {account_id}
    await refresh_search(office.db, datetime.now(UTC))
    assert await found(viewer, search=f"{mark}new") == {account_id}
    assert await found(viewer, search=f"{mark}old") == set()


async def test_the_first_runs_walk_over_all_accounts_and_go_on_where_one_ended(
    office: Office, viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has accounts without search words. The next run continues where a failed run stopped."""
    monkeypatch.setattr(search, "ACCOUNTS_AT_ONCE", 2)
    monkeypatch.setattr("app.admin.users.search.MAX_RECENT", 0)
    mark = f"w{uuid.uuid4().hex}"
    accounts = {await open_account(office, display_name=f"Ann {mark}") for _ in range(5)}
    async with connected(office.urls) as connection:
        await connection.execute("DELETE FROM account_search_refresh; DELETE FROM account_search_words")
    refreshed, calls = search_queries.replace_search, 0

    async def fail_later(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ConnectionError
        await refreshed(*arguments)

    monkeypatch.setattr(search_queries, "replace_search", fail_later)
    with pytest.raises(ConnectionError):
        await refresh_search(office.db, datetime.now(UTC))
    [state] = await office.rows("SELECT walked_to FROM account_search_refresh")
    assert state["walked_to"] is not None
    await refresh_search(office.db, datetime.now(UTC))
    [state] = await office.rows("SELECT walked_to FROM account_search_refresh")
    assert state["walked_to"] is None
    assert await found(viewer, search=mark) == accounts


async def test_erased_people_leave_no_trace(office: Office, viewer: httpx.AsyncClient) -> None:
    """A trigger deletes the search words, so this holds for every version that erases."""
    mark = f"e{uuid.uuid4().hex}"
    first, second = [await open_account(office, f"{mark}{n}@example.com", display_name=f"Ann {mark}") for n in (1, 2)]
    await refresh_search(office.db, datetime.now(UTC))
    async with office.db.transaction() as tx:
        await erase_person(tx, first, datetime.now(UTC))
    async with connected(office.urls) as connection:  # as an older version would
        await connection.execute("DELETE FROM account_identities WHERE account_id = $1", second)
        await connection.execute("DELETE FROM account_profiles WHERE account_id = $1", second)
    for table in ("account_search_words", "account_spellings"):
        assert await office.rows(f"SELECT FROM {table} WHERE account_id = ANY ($1)", [first, second]) == []
    await refresh_search(office.db, datetime.now(UTC))
    assert await found(viewer, search=mark) == set()
    assert await office.rows("SELECT FROM account_search_words WHERE word LIKE $1", f"{mark}%") == []


async def test_an_erasure_waits_for_the_worker_and_leaves_nothing(
    office: Office, viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has read the person's names, and writes them while the person is erased."""
    mark = f"r{uuid.uuid4().hex}"
    account_id = await open_account(office, display_name=f"Ann {mark}")
    locked, go_on = asyncio.Event(), asyncio.Event()
    replace = search_queries.replace_search

    async def slow(*arguments: Any) -> None:
        locked.set()
        await go_on.wait()
        await replace(*arguments)

    monkeypatch.setattr(search_queries, "replace_search", slow)

    async def erase() -> None:
        await locked.wait()
        async with office.db.transaction() as tx:
            asyncio.get_running_loop().call_later(0.1, go_on.set)
            await erase_person(tx, account_id, datetime.now(UTC))

    await asyncio.gather(refresh_search(office.db, datetime.now(UTC)), erase())
    assert await office.rows("SELECT FROM account_search_words WHERE account_id = $1", account_id) == []
    assert await found(viewer, search=mark) == set()


async def test_a_search_with_too_many_matches_says_so(
    office: Office, viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"t{uuid.uuid4().hex}"
    for _ in range(3):
        await open_account(office, display_name=f"Ann {mark}")
    await refresh_search(office.db, datetime.now(UTC))
    for name in ("MAX_MATCHES", "MAX_PROBED"):
        with monkeypatch.context() as smaller:
            smaller.setattr(f"app.admin.users.search.{name}", 2)
            assert (await viewer.get("/admin/users", params={"search": mark})).json()["truncated"]
    assert not (await viewer.get("/admin/users", params={"search": mark})).json()["truncated"]


@pytest.mark.parametrize(
    "text", ["", "---", "%", "x" * 255, "\ufdfa" * 255, "a " * 127, "\u0130" * 255, "\ud7ff", "'; DROP TABLE accounts"]
)
def test_words_are_bounded_whatever_is_stored(text: str) -> None:
    words = words_of([text, None])
    assert len(words) <= search.MAX_WORDS
    assert all(0 < len(word) <= search.MAX_WORD_CHARS for word in words)


# --- spellings of one person ---------------------------------------------------------------------------------------


async def groups_with(client: httpx.AsyncClient, account_id: UUID) -> list[set[UUID]]:
    groups = (await client.get(SPELLINGS)).json()["groups"]
    sets = [{UUID(user["account_id"]) for user in group["users"]} for group in groups]
    return [group for group in sets if account_id in group]


@pytest.mark.parametrize(
    "spellings",
    [
        [("oauth:google", "Ann{mark}@example.com"), ("oauth:google", "ann{mark}@example.com")],
        [("oauth:google", NFC + "{mark}"), ("oauth:google", NFD + "{mark}")],
        [("oauth:Google", "ann{mark}"), ("oauth:google", "ann{mark}"), ("oauth:GOOGLE", "ANN{mark}")],
        [("oauth:google", "ann{mark}"), ("oauth:google", "\uff41nn{mark}")],
    ],
)
async def test_spellings_of_one_person_are_reported_and_never_merged(
    office: Office, viewer: httpx.AsyncClient, support: httpx.AsyncClient, read: Any, spellings: list[tuple[str, str]]
) -> None:
    mark = uuid.uuid4().hex
    accounts = []
    for provider, external_id in spellings:
        identity = Identity("live", provider, external_id.format(mark=mark))
        account_id, created = await office.app.state.billing.accounts.directory.find_or_create(
            identity, ACTOR, datetime.now(UTC)
        )
        assert created
        accounts.append(account_id)
    await open_account(office, f"other{mark}@example.com")
    test = Identity("test", spellings[0][0], spellings[0][1].format(mark=mark))  # another world, another person
    await office.app.state.billing.accounts.directory.find_or_create(test, ACTOR, datetime.now(UTC))
    await read()
    assert await groups_with(viewer, accounts[0]) == [set(accounts)]
    for account_id in accounts[1:]:  # acted upon: one account is left
        await office.app.state.billing.accounts.set_status(account_id, "closed", None, datetime.now(UTC))
    assert await groups_with(viewer, accounts[0]) == []


async def test_spellings_are_found_by_two_workers_at_once(office: Office, viewer: httpx.AsyncClient) -> None:
    mark = uuid.uuid4().hex
    accounts = [await open_account(office, f"{name}{mark}@example.com") for name in ("Ann", "ann")]
    now = datetime.now(UTC)
    await asyncio.gather(*(refresh_search(office.db, now) for _ in range(4)))
    assert await groups_with(viewer, accounts[0]) == [set(accounts)]
    shared = await office.rows("SELECT FROM account_spellings WHERE shared AND account_id = ANY ($1)", accounts)
    assert len(shared) == 2


@pytest.mark.parametrize(
    ("listed", "first", "second", "same"),
    [
        ([], ("oauth:google", "Ann{m}"), ("oauth:google", "ann{m}"), False),
        (["oauth:google"], ("oauth:google", "Ann{m}"), ("oauth:google", "ann{m}"), True),
        (["oauth:google"], ("oauth:Google", "Ann{m}"), ("oauth:google", "ANN{m}"), True),
        (["oauth:Google"], ("oauth:google", NFD + "{m}"), ("oauth:google", NFC + "{m}"), True),
        (["oauth:google"], ("oauth:discord", "Ann{m}"), ("oauth:discord", "ann{m}"), False),
        (["oauth:google"], ("oauth:google", "stra\u00dfe{m}"), ("oauth:google", "strasse{m}"), False),
    ],
)
async def test_new_identities_of_listed_providers_are_folded(
    office: Office, listed: list[str], first: tuple[str, str], second: tuple[str, str], same: bool
) -> None:
    mark = uuid.uuid4().hex
    async with running_app(settings_for(office.urls, folded_providers=listed)) as app:
        directory = app.state.accounts.directory
        ids = []
        for provider, external_id in (first, second, first, second):
            identity = Identity("live", provider, external_id.format(m=mark))
            ids.append((await directory.find_or_create(identity, ACTOR, datetime.now(UTC)))[0])
            assert await directory.find(identity) == ids[-1]
    assert (ids[0] == ids[1], ids[2:]) == (same, ids[:2])


async def test_identities_that_exist_are_found_by_their_own_spelling_first(office: Office) -> None:
    """Accounts from before the provider was listed stay as they are, each its own."""
    mark = uuid.uuid4().hex
    directory = office.app.state.accounts.directory
    old = {}
    for name in ("Ann", "ann", "ANN"):
        identity = Identity("live", "oauth:google", f"{name}{mark}")
        old[name] = (await directory.find_or_create(identity, ACTOR, datetime.now(UTC)))[0]
    async with running_app(settings_for(office.urls, folded_providers=["oauth:google"])) as app:
        for name, expected in {**old, "aNN": old["ann"]}.items():
            identity = Identity("live", "oauth:google", f"{name}{mark}")
            account_id, created = await app.state.billing.accounts.directory.find_or_create(
                identity, ACTOR, datetime.now(UTC)
            )
            assert (account_id, created) == (expected, False)


async def test_racing_spellings_of_a_new_person_make_one_account(office: Office) -> None:
    mark = uuid.uuid4().hex
    async with running_app(settings_for(office.urls, folded_providers=["oauth:google"])) as app:
        identities = [Identity("live", "oauth:google", f"{name}{mark}") for name in ("Ann", "ann", "ANN", "aNn") * 3]
        results = await asyncio.gather(
            *(app.state.billing.accounts.directory.find_or_create(one, ACTOR, datetime.now(UTC)) for one in identities)
        )
    assert len({account_id for account_id, _ in results}) == 1
    assert sum(created for _, created in results) == 1


async def test_search_state_ages_with_the_worker(office: Office) -> None:
    """Changes carry a time before their commit, so each run reads the last minutes again."""
    now = datetime.now(UTC)
    await refresh_search(office.db, now)
    account_id = await open_account(office)
    assert await refresh_search(office.db, now + timedelta(minutes=1)) >= 1
    assert await office.rows("SELECT FROM account_search_words WHERE account_id = $1", account_id) != []


async def test_the_first_walk_of_an_empty_database_reads_no_account(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    try:
        assert await refresh_search(db, datetime.now(UTC)) == 0
    finally:
        await db.close()
