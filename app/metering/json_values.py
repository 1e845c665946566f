"""Bounds of JSON values that are stored as callers sent them, so that PostgreSQL and Python can always read them."""

import json
from math import frexp
from typing import Any

MAX_BYTES = 16 * 1024
MAX_DEPTH = 20


def bounded_json(name: str, value: Any) -> str:
    """Return the value as JSON text. Raises ValueError, whose message begins with `name`.

    Refuses more than 16 KiB, more than 20 levels, NUL, half surrogate pairs, NaN and infinities. The size is that of
    the stored value: PostgreSQL writes 1e308 with all of its 309 digits.
    """
    zeros = _require_flat(name, value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode()) + zeros
    except UnicodeEncodeError:
        raise ValueError(f"{name} contains half of a surrogate pair") from None
    except ValueError:
        raise ValueError(f"{name} contains NaN, an infinity or a number of too many digits") from None
    if size > MAX_BYTES:
        raise ValueError(f"{name} is over {MAX_BYTES} bytes of JSON")
    if "\\u0000" in text and _contains_nul(value):
        raise ValueError(f"{name} contains NUL")
    return text


def _require_flat(name: str, value: Any) -> int:
    """Raise ValueError for more than MAX_DEPTH levels. Does not recurse, so no depth can exhaust the stack.

    Return the number of zeros that PostgreSQL writes instead of the exponents of numbers.
    """
    level, depth, zeros = [value], 0, 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{name} has over {MAX_DEPTH} levels")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        zeros += sum(_zeros_of(item) for item in inner if isinstance(item, float))
        level = [item for item in inner if isinstance(item, dict | list)]
    return zeros


def _zeros_of(number: float) -> int:
    """Return the decimal exponent of a number that JSON writes with one, about; 0 for others."""
    return abs(frexp(number)[1]) * 3 // 10 if "e" in repr(number) else 0


def _contains_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or _contains_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(_contains_nul(item) for item in value)
