"""The files that are mutated, and the tests that must notice: the narrowest first, because a run ends at a failure."""

from pathlib import Path

from tests.databases import ROOT

PACKAGES = ("app/billing", "app/tools", "app/payments", "app/auth")
NOT_MUTATED = ("__init__.py", "models.py", "schemas.py", "ledger_checks.py", "webhooks.py")
"""Declarations: constraints have mutants of their own (tests/mutants.py), fields have the nasty-input tests."""

BILLING = ("tests/billing", "tests/test_wire.py", "tests/admin/test_corrections.py", "tests/test_machine.py")
PAYMENTS = ("tests/payments", "tests/admin/test_refunds.py", "tests/admin/test_purchases.py")
TOOLS = ("tests/tools", "tests/test_wire.py", "tests/test_machine.py")
AUTH = ("tests/auth", "tests/test_hostile_clients.py", "tests/admin/test_api_keys.py")
ADMINS = ("tests/admin/sign_in", "tests/admin/sessions", "tests/auth/test_admins.py")
TOKENS = ("tests/auth/tokens", "tests/auth/test_user_tokens.py", "tests/admin/sign_in")
LIMITS = ("tests/auth/test_limits.py", "tests/auth/test_shared_limits.py", *AUTH)
BY_PACKAGE = {"app/billing": BILLING, "app/tools": TOOLS, "app/payments": PAYMENTS, "app/auth": AUTH}
BY_FILE: dict[str, tuple[str, ...]] = {
    "app/auth/admins/admins.py": ADMINS,
    "app/auth/admins/sessions.py": ADMINS,
    "app/auth/admins/sign_in.py": ADMINS,
    "app/auth/id_tokens/verifier.py": TOKENS,
    "app/auth/id_tokens/jwks.py": TOKENS,
    "app/auth/rate_limits/token_buckets.py": LIMITS,
    "app/auth/rate_limits/redis_buckets.py": LIMITS,
    "app/auth/client_address.py": ("tests/auth/test_addresses.py", "tests/auth/test_limits.py", *AUTH),
    "app/auth/queries.py": (*AUTH, *ADMINS),
    "app/auth/authenticator.py": (*AUTH, "tests/auth/test_user_tokens.py", "tests/test_cli.py"),
    "app/billing/accounts.py": ("tests/billing/test_accounts.py", *BILLING, "tests/admin/test_erasure.py"),
    "app/billing/activity.py": ("tests/admin/test_user_order.py", "tests/worker"),
    "app/billing/erasure.py": ("tests/admin/test_erasure.py",),
    "app/billing/ledger.py": (*BILLING, "tests/payments"),
    "app/billing/llm_usage.py": ("tests/sdk/test_client.py", "tests/test_wire.py"),
    "app/billing/pools.py": ("tests/billing/test_pools.py", *BILLING),
    "app/billing/posting.py": (*BILLING, "tests/payments"),
    "app/billing/queries.py": (*BILLING, "tests/admin/test_erasure.py", "tests/test_verify.py"),
    "app/billing/service.py": (*BILLING, "tests/risk"),
    "app/billing/verify.py": ("tests/test_verify.py",),
}


def mutated_files() -> list[str]:
    """Paths of the files whose decisions are mutated, from the project's folder."""
    found = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return [str(path.relative_to(ROOT)) for path in found if path.name not in NOT_MUTATED]


def selected_tests(file: str) -> tuple[str, ...]:
    """Test files and folders, each once."""
    package = "/".join(Path(file).parts[:2])
    return tuple(dict.fromkeys(BY_FILE.get(file, BY_PACKAGE[package])))
