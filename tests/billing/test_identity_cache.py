"""The cache of identities: bounded in bytes for names of any length, and never two identities in one entry."""

import itertools
import sys
from datetime import UTC
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from app.accounts import directory as directory_module
from app.accounts import queries
from app.accounts.directory import CACHED_IDENTITY_BYTES, AccountDirectory, Identity
from app.configuration.service import Configuration
from app.db import Database
from app.db.listener import NotificationListener

LONG = "\U0001f600" * 200
"""Four bytes a character in memory."""
TEXTS = ["", "a", "ab", "b", "1:a", "a\0b", "\0", ":", "0:", "é", "e\u0301", "\ud800", LONG, LONG + "a"]


class Current:
    """A listener for which every cached entry is current."""

    def subscribe(self, *_: object) -> None:
        pass

    def is_current(self, _: float) -> bool:
        return True


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> AccountDirectory:
    """A directory whose every identity has an account, found without a database."""

    async def find_account_id(*_: object) -> UUID:
        return uuid4()

    monkeypatch.setattr(queries, "find_account_id", find_account_id)
    settings = SimpleNamespace(digest_key=None, all_issuers=[], time_zone=UTC)
    configuration = cast(Configuration, SimpleNamespace(settings=settings))
    directory = AccountDirectory(Database(SecretStr("postgresql://localhost/none")), configuration)
    directory.listen(cast(NotificationListener, Current()))
    return directory


def bytes_of(directory: AccountDirectory) -> int:
    entries = directory._ids._entries
    objects = (sys.getsizeof(key) + sys.getsizeof(value) + sys.getsizeof(value.int) for key, value in entries.items())
    return sys.getsizeof(entries) + sum(objects)


async def test_200_000_long_names_take_no_more_than_the_bound(directory: AccountDirectory) -> None:
    for number in range(200_000):
        await directory.find(Identity("live", "oauth:google", f"{LONG}{number}"))
    assert bytes_of(directory) <= CACHED_IDENTITY_BYTES


async def test_each_of_many_identities_is_answered_with_its_own_account(directory: AccountDirectory) -> None:
    """Also where the parts of one identity, concatenated, equal those of another."""
    identities = [
        Identity(environment, provider, external_id)
        for environment in ("live", "test")
        for provider, external_id in itertools.product(TEXTS, TEXTS)
    ]
    first = [await directory.find(identity) for identity in identities]
    assert len(set(first)) == len(identities)
    assert [await directory.find(identity) for identity in identities] == first


def test_a_digest_has_128_bits_and_is_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker cannot search for two identities that share a digest: each process has a separate key."""
    identity = Identity("live", "oauth:google", "ann")
    digest = identity.digest()
    assert len(digest) * 8 >= 128
    monkeypatch.setattr(directory_module, "_DIGEST_KEY", bytes(32))
    assert identity.digest() != digest
