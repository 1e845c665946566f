"""API keys: their text, and the facts that decide whether one works. No database, no framework, no clock.

`cbk_live_<key id>_<secret>`: the key id is public (log lines and commands name keys by it), the secret has 256 bits.
Both consist of letters and digits, so that a double click selects the key and no URL or shell needs quoting.
"""

import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, TypeAlias, cast

from app.auth.caller import DoubleCharges, Environment, Permission, UsagePolicy

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

KEY_ID_CHARS = 16
SECRET_BITS = 256
SECRET_CHARS = 43  # 256 bits in base 62
MAX_NAME_CHARS = 255
MAX_SUBJECT_CHARS = 512
_ID_ALPHABET = string.digits + string.ascii_lowercase
_SECRET_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_TEXT = re.compile(rf"cbk_(live|test)_([0-9a-z]{{{KEY_ID_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}}")

KeyStatus = Literal["active", "rotated", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key. `secret_text` is the whole key as callers send it: shown once, and stored nowhere."""

    key_id: str
    secret_text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UsageTerms:
    """A key's rights and bounds in reports of usage.

    - `identity_provider`: the provider of the external ids that the key sends as `user_id`. None: it cannot.
    - `event_source`: the source of its usage events. None: `api-key:` and the id of the first key, before rotations.
    - `usage_policy`: for usage that the account's money does not cover.
    - `debt_limit_nanos`: the most debt that an account may have after usage by the policy `debt`.
    - `max_cost_nanos`: the largest cost that the key may state for one event.
    """

    identity_provider: str | None = None
    event_source: str | None = None
    usage_policy: UsagePolicy = "refuse"
    debt_limit_nanos: int | None = None
    max_cost_nanos: int | None = None


NO_TERMS = UsageTerms()


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A stored key without its hash. A rotated key works until `grace_ends_at`; `rotated_to` names its successor."""

    key_id: str
    environment: Environment
    name: str
    permissions: frozenset[Permission]
    ip_allow_list: tuple[Network, ...]
    client_subject: str | None
    rate_limit_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_to: str | None
    grace_ends_at: datetime | None
    last_used_at: datetime | None
    requests_total: int
    usage: UsageTerms = NO_TERMS
    double_charges: DoubleCharges = "ignore"

    @property
    def source(self) -> str:
        """The name of the usage events' source. It never changes, and successors have the same."""
        return self.usage.event_source or f"api-key:{self.key_id}"

    def status(self, now: datetime) -> KeyStatus:
        """Return the status. `rotated` keys still work; expired (by date or grace period) and revoked ones do not."""
        if self.revoked_at is not None:
            return "revoked"
        ends = [end for end in (self.expires_at, self.grace_ends_at) if end is not None]
        if ends and now >= min(ends):
            return "expired"
        return "active" if self.rotated_to is None else "rotated"

    def works(self, now: datetime) -> bool:
        return self.status(now) in ("active", "rotated")

    def allows(self, address: Address | None) -> bool:
        """Return whether the IP allow-list, if there is one, contains `address`."""
        if not self.ip_allow_list:
            return True
        return address is not None and any(address in network for network in self.ip_allow_list)


def generate_key(environment: Environment) -> NewKey:
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(KEY_ID_CHARS))
    number, digits = secrets.randbits(SECRET_BITS), []
    for _ in range(SECRET_CHARS):
        number, digit = divmod(number, len(_SECRET_ALPHABET))
        digits.append(_SECRET_ALPHABET[digit])
    return NewKey(key_id, f"cbk_{environment}_{key_id}_{''.join(digits)}")


def parse_key(text: str) -> tuple[Environment, str] | None:
    """Return (environment, key id) of a well-formed key, else None."""
    match = _TEXT.fullmatch(text)
    return None if match is None else (cast(Environment, match[1]), match[2])
