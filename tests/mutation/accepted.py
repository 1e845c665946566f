"""Survivors that are accepted, with the reason: a mutation that changes nothing that the service promises.

Keyed by file, line of code and change, as docs/mutation.md lists them. An entry whose mutation no longer exists fails a
test.
"""

Survivor = tuple[str, str, str]


def _because(reason: str, *survivors: Survivor) -> dict[Survivor, str]:
    return dict.fromkeys(survivors, reason)


ACCEPTED: dict[Survivor, str] = {
    **_because(
        "equal: (2**63 - 1) // 100 and (2**63 - 2) // 100 are the same number",
        ("app/ledger/pools.py", "MAX_CREDITS = (2**63 - 1) // MINOR_PER_CREDIT", "1 → 2"),
    ),
    **_because(
        "equal: the number is compared with an earlier one for equality only",
        ("app/auth/cache.py", "self._invalidations = 0", "0 → 1"),
        ("app/auth/cache.py", "self._invalidations += 1", "1 → 2"),
    ),
    **_because(
        "equal: the rank of a decided dispute is only compared with 0, that of an undecided one",
        ("app/payments/facts.py", 'return (1, decided_s, dispute.status == "lost")', "1 → 2"),
    ),
    **_because(
        "equal: an account without an id has no charges, so the next lines find none and raise the same error",
        ("app/billing/service.py", "if account_id is None: raise ChargeNotFound", "raise ChargeNotFound → pass"),
    ),
    **_because(
        "equal: two to the ninth seconds are more than MAX_PAUSE_S already",
        (
            "app/auth/api_keys/brute_force.py",
            "pause_s = min(MAX_PAUSE_S, 1 << min(record.failures - FREE_ATTEMPTS, 10))",
            "10 → 11",
        ),
    ),
    **_because(
        "differs for a wait of exactly one microsecond, which is there to absorb rounding",
        (
            "app/auth/rate_limits/token_buckets.py",
            "return max(1, math.ceil(missing_s - 1e-6)) if missing_s > 1e-6 else 0  # sums of fractions are inexact",
            "missing_s > 1e-6 → (missing_s >= 1e-06)",
        ),
    ),
    **_because(
        "one microsecond of a bucket's refill",
        (
            "app/auth/rate_limits/redis_buckets.py",
            "args += [round(use.used_s * 1e6), max(1, round(missing_s * 1e6))]",
            "1 → 2",
        ),
    ),
    **_because(
        "the driver asks once more within the same EXCHANGE_TIMEOUT_S; no request waits for it",
        (
            "app/auth/rate_limits/redis_buckets.py",
            "retry=Retry(NoBackoff(), 0),  # the next exchange is the retry",
            "0 → 1",
        ),
    ),
    **_because(
        "the pauses grow a little faster, up to the same longest pause",
        ("app/auth/rate_limits/redis_buckets.py", "retry_s = min(MAX_RETRY_S, retry_s * 2)", "2 → 3"),
    ),
    **_because(
        "one row more than a bound on memory: the exact number is no promise",
        ("app/auth/admins/admins.py", "MAX_ADMINS = 1000", "1000 → 1001"),
    ),
}
