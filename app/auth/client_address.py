"""Client address: the address that a request comes from, behind trusted proxies."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from app.auth.api_keys.keys import Address, Network

MAX_HOPS = 32
IPV6_SITE_BITS = 64  # a subscriber has at least a /64, and could use a new address in it for each request


@lru_cache(maxsize=8192)
def parse_address(text: str) -> Address | None:
    """Return an IP address as proxies write it, with or without a port. IPv4 inside IPv6 becomes IPv4. Else None."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8192)
def origin(address: Address | None) -> str:
    """Return the name under which an address's requests are counted: IPv6 by its /64."""
    match address:
        case IPv4Address():
            return str(address)
        case IPv6Address():
            return str(IPv6Network((address, IPV6_SITE_BITS), strict=False))
        case None:
            return "unknown"


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """Return the client's address as the last trusted proxy saw it.

    `forwarded_for` are the request's X-Forwarded-For headers in order. They are read from the right, as long as the
    hop that added an entry is trusted: entries further left were written by the client itself. An entry that is not an
    address ends the walk at the hop that sent it. None if the peer has no IP address.
    """
    address = parse_address(peer) if peer is not None else None
    if address is None or not trusted or not forwarded_for:
        return address
    hops = ",".join(forwarded_for).rsplit(",", MAX_HOPS)
    for hop in reversed(hops[-MAX_HOPS:]):
        if not any(address in network for network in trusted):
            break
        further = parse_address(hop)
        if further is None:
            break
        address = further
    return address
