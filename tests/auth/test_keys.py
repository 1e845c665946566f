"""Key texts are parsed strictly, keys end when they should, and a secret never shows by accident."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.api_keys.keys import KeyFacts, generate_key, parse_key
from app.auth.caller import Permission

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ACTIVE = KeyFacts(
    key_id="0123456789abcdef",
    environment="live",
    name="agent",
    permissions=frozenset({Permission.READ}),
    ip_allow_list=(),
    client_subject=None,
    rate_limit_per_minute=None,
    created_at=NOON - timedelta(days=1),
    expires_at=None,
    revoked_at=None,
    rotated_to=None,
    grace_ends_at=None,
    last_used_at=None,
    requests_total=0,
)


def test_a_key_names_its_environment_and_id_and_needs_no_quoting() -> None:
    key = generate_key("test")
    assert re.fullmatch(r"cbk_test_[0-9a-z]{16}_[0-9A-Za-z]{43}", key.secret_text)
    assert parse_key(key.secret_text) == ("test", key.key_id)


def test_the_secret_has_256_bits() -> None:
    """Over many keys every bit of the number behind the secret is seen both set and clear."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    ones, zeros = 0, 0
    for _ in range(200):
        secret = generate_key("live").secret_text.rpartition("_")[2]
        number = sum(alphabet.index(digit) * 62**place for place, digit in enumerate(secret))
        assert number < 2**256
        ones, zeros = ones | number, zeros | ~number & (2**256 - 1)
    assert ones == zeros == 2**256 - 1


def test_a_thousand_keys_differ_in_id_and_secret() -> None:
    keys = [generate_key("live") for _ in range(1000)]
    assert len({key.key_id for key in keys}) == len({key.secret_text[-43:] for key in keys}) == 1000


def test_the_secret_is_in_no_repr() -> None:
    key = generate_key("live")
    assert key.secret_text not in repr(key)
    assert key.secret_text[-43:] not in repr(key)


@given(st.text(max_size=120) | st.from_regex(r"cbk_(live|test|Live)_[0-9a-zA-Z]{15,17}_[0-9A-Za-z_-]{42,44}\n?"))
def test_nothing_but_the_exact_shape_parses(text: str) -> None:
    exact = re.compile("cbk_(?:live|test)_[0-9a-z]{16}_[0-9A-Za-z]{43}", re.ASCII)
    assert (parse_key(text) is not None) == (exact.fullmatch(text) is not None)


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t + "\n", lambda t: " " + t, lambda t: t[:-1], lambda t: t + "0"]
)
def test_a_changed_key_does_not_parse(change: Callable[[str], str]) -> None:
    assert parse_key(change(generate_key("live").secret_text)) is None


@pytest.mark.parametrize(
    "key",
    [replace(ACTIVE, expires_at=NOON), replace(ACTIVE, rotated_to="f" * 16, grace_ends_at=NOON)],
    ids=["expiry", "grace"],
)
def test_a_key_works_until_its_end_and_not_at_it(key: KeyFacts) -> None:
    assert key.works(NOON - TICK)
    assert not key.works(NOON)
    assert key.status(NOON) == "expired"


def test_the_earlier_end_counts() -> None:
    key = replace(ACTIVE, expires_at=NOON, rotated_to="f" * 16, grace_ends_at=NOON + timedelta(days=1))
    assert key.status(NOON - TICK) == "rotated"
    assert not key.works(NOON)


def test_a_revoked_key_never_works() -> None:
    key = replace(ACTIVE, revoked_at=NOON)
    assert key.status(NOON - timedelta(days=1)) == "revoked"
    assert not key.works(NOON - timedelta(days=1))


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ([], "203.0.113.9", True),
        ([], None, True),
        (["203.0.113.0/24"], "203.0.113.9", True),
        (["203.0.113.0/24"], "203.0.114.9", False),
        (["203.0.113.0/24", "2001:db8::/32"], "2001:db8::1", True),
        (["203.0.113.0/24"], "2001:db8::1", False),
        (["203.0.113.0/24"], None, False),
    ],
)
def test_the_allow_list_decides_by_network(networks: list[str], address: str | None, allowed: bool) -> None:
    key = replace(ACTIVE, ip_allow_list=tuple(ip_network(network) for network in networks))
    assert key.allows(None if address is None else ip_address(address)) is allowed
