"""Idempotency keys, made from what the caller names and from nothing else.

The same interaction gives the same key today, tomorrow and in another process, so that it is paid for once. Neither the
time nor chance goes into a key.
"""

import hashlib

MAX_LENGTH = 255


def charge_key(interaction_id: str) -> str:
    """The key under which an interaction is charged. Raises ValueError for an empty id."""
    return _key("charge", interaction_id)


def tool_key(product_type: str, call_id: str) -> str:
    """The key under which one call of a tool is charged. Raises ValueError for an empty id."""
    return _key(f"tool:{product_type}", call_id)


def _key(purpose: str, name: str) -> str:
    if not name:
        raise ValueError("an idempotency key needs the name of what is paid for")
    key = f"{purpose}:{name}"
    content = key.encode("utf-8", "surrogatepass")
    if len(key) <= MAX_LENGTH and "\0" not in key and content == key.encode("utf-8", "replace"):
        return key
    digest = hashlib.sha256(content).hexdigest()
    return f"sha256:{digest}"
