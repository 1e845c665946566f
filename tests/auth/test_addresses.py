"""X-Forwarded-For is believed as far as trusted proxies wrote it, and no further."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.client_address import MAX_HOPS, client_address, origin, parse_address

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),  # an untrusted peer says what it likes
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),  # the client wrote the left one
        ("10.0.0.1", ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),  # the same in two headers
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),  # a client inside the trusted network
        ("10.0.0.1", ["10.9.9.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], None),
        ("/run/billing.sock", ["198.51.100.1"], None),
    ],
)
def test_the_client_is_whom_the_last_trusted_hop_saw(
    peer: str | None, forwarded_for: list[str], client: str | None
) -> None:
    expected = None if client is None else ip_address(client)
    assert client_address(peer, forwarded_for, PROXIES) == expected


def test_without_trusted_proxies_the_header_is_nothing() -> None:
    assert client_address("10.0.0.1", ["198.51.100.1"], []) == ip_address("10.0.0.1")


def test_a_header_of_ten_thousand_hops_is_read_only_so_far() -> None:
    hops = ",".join(["198.51.100.1"] + ["10.0.0.2"] * 10_000)
    assert client_address("10.0.0.1", [hops], PROXIES) == ip_address("10.0.0.2")
    hops = ",".join(["198.51.100.1"] + ["10.0.0.2"] * (MAX_HOPS - 1))
    assert client_address("10.0.0.1", [hops], PROXIES) == ip_address("198.51.100.1")


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_any_text_gives_an_address_or_none(peer: str, forwarded_for: list[str]) -> None:
    client_address(peer, forwarded_for, PROXIES)
    client_address("10.0.0.1", forwarded_for, PROXIES)


def test_ipv6_is_counted_by_site() -> None:
    one, other = parse_address("2001:db8:0:1::1"), parse_address("2001:db8:0:1:ffff::2")
    assert origin(one) == origin(other) == "2001:db8:0:1::/64"
    assert origin(parse_address("2001:db8:0:2::1")) != origin(one)
    assert origin(parse_address("198.51.100.1")) == "198.51.100.1"
    assert origin(None) == "unknown"
