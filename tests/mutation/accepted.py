"""Survivors that are accepted, with the reason: a mutation that changes nothing that the service promises.

Keyed by file, line of code and change, as docs/mutation.md lists them. An entry whose mutation no longer exists fails a
test.
"""

Survivor = tuple[str, str, str]


def _because(reason: str, *survivors: Survivor) -> dict[Survivor, str]:
    return dict.fromkeys(survivors, reason)


JWKS = "app/auth/id_tokens/jwks.py"

ACCEPTED: dict[Survivor, str] = {
    **_because(
        "equal: (2**63 - 1) // 100 and (2**63 - 2) // 100 are the same number",
        ("app/ledger/pools.py", "MAX_CREDITS = (2**63 - 1) // MINOR_PER_CREDIT", "1 → 2"),
    ),
    **_because(
        "equal: the number is compared with an earlier one for equality only",
        ("app/auth/cache.py", "self._invalidations += 1", "1 → 2"),
    ),
    **_because(
        "equal: an account without an id has no charges, so the next lines find none and raise the same error",
        ("app/billing/service.py", "if account_id is None: raise ChargeNotFound", "raise ChargeNotFound → pass"),
    ),
    **_because(
        "the pauses grow a little faster, up to the same longest pause",
        ("app/auth/rate_limits/redis_buckets.py", "retry_s = min(MAX_RETRY_S, retry_s * 2)", "2 → 3"),
    ),
    **_because(
        "one more row or entry than a bound on memory: the exact number is no promise",
        ("app/auth/admins/admins.py", "MAX_ADMINS = 1000", "1000 → 1001"),
    ),
}
