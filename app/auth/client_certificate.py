"""Client certificate: the subject that a trusted proxy has verified."""

import re
from collections.abc import Sequence

from fastapi import Request

from app.auth.api_keys.keys import Network
from app.auth.client_address import parse_address

_PART = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)=(?:\\.|[^\\,+])+"
_SUBJECT = re.compile(rf"{_PART}(?:[,+] ?{_PART})*")
SUBJECT_HEADER = "X-Client-Subject"


def is_subject(text: str) -> bool:
    """Return whether the text is a distinguished name (RFC 4514), such as `CN=agent-7,O=Example`."""
    return _SUBJECT.fullmatch(text) is not None


def verified_subject(request: Request, trusted: Sequence[Network]) -> str | None:
    """Return the subject of the client certificate that a trusted proxy has verified; None without one.

    Only the proxy that the request comes from counts. It removes the header from all requests and writes its own. From
    other peers the header is ignored, and so is one that is sent twice, because its author is unknown.
    """
    peer = parse_address(request.client.host) if request.client is not None else None
    if peer is None or not any(peer in network for network in trusted):
        return None
    subjects = request.headers.getlist(SUBJECT_HEADER)
    if len(subjects) != 1:
        return None
    try:
        return subjects[0].encode("latin-1").decode() or None  # names can have letters of any alphabet
    except UnicodeDecodeError:
        return None
