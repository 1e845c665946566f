"""Idempotency keys, derived only from the caller's ids.

The same id gives the same key at any time and in any process, so that an interaction is paid for once. Keys contain
neither time nor randomness.
"""

import hashlib

MAX_LENGTH = 255


def charge_key(interaction_id: str) -> str:
    """Return the idempotency key for the charge of an interaction. Raises ValueError for an empty id."""
    return _key("charge", interaction_id)


def tool_key(product_type: str, call_id: str) -> str:
    """Return the idempotency key for the charge of one tool call. Raises ValueError for an empty id."""
    return _key(f"tool:{product_type}", call_id)


def hold_key(name: str, after: str | None = None) -> str:
    """Return the idempotency key for the hold of named work; `after` is the id of the name's hold before, which was
    returned. Raises ValueError for an empty name."""
    return _key("hold", name) if after is None else _key(f"hold-after:{after}", name)


def llm_key(call_id: str) -> str:
    """Return the idempotency key for an LLM call that is paid for without a hold before it."""
    return _key("llm", call_id)


def _key(purpose: str, name: str) -> str:
    if not name:
        raise ValueError("the id is empty: pass the id of the interaction or the tool call")
    key = f"{purpose}:{name}"
    content = key.encode("utf-8", "surrogatepass")
    if len(key) <= MAX_LENGTH and "\0" not in key and content == key.encode("utf-8", "replace"):
        return key
    digest = hashlib.sha256(content).hexdigest()
    return f"sha256:{digest}"
