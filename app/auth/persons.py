"""Persons: guards requests that an agent may not send. Agents have users' tokens too, so a token is not a person.

    require_person(caller, now)  # raises PersonRequired

A token is a person's if its client is one that only persons use (`Issuer.interactive_audiences`), and if the user has
signed in within 10 minutes, where the issuer says when (`auth_time`).
"""

from datetime import datetime, timedelta

from app.auth.caller import Caller
from app.auth.errors import PersonRequired

RECENT = timedelta(minutes=10)
"""Longest time since the sign-in."""
AHEAD = timedelta(seconds=30)
"""Seconds that the issuer's clock may be ahead."""


def is_person(caller: Caller, now: datetime) -> bool:
    """Return whether the caller is an end user in person. API keys never are."""
    user = caller.user
    if user is None or not user.is_interactive:
        return False
    return user.authenticated_at is None or now - RECENT <= user.authenticated_at <= now + AHEAD


def require_person(caller: Caller, now: datetime) -> None:
    """Raise PersonRequired unless the caller is an end user in person."""
    if not is_person(caller, now):
        raise PersonRequired


def require_known_person(caller: Caller, now: datetime) -> None:
    """As `require_person`, for routes that are older than interactive audiences.

    Tokens of an issuer without interactive audiences are accepted, as earlier versions did: nothing shows that agents
    hold them.
    """
    if caller.user is None or caller.user.knows_persons:
        require_person(caller, now)
