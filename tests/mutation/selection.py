"""The files that are mutated, and the tests that must notice: the narrowest first, because a run ends at a failure."""

from pathlib import Path

from tests.databases import ROOT

PACKAGES = (
    "app/accounts",
    "app/auth",
    "app/billing",
    "app/ledger",
    "app/metering",
    "app/payments",
    "app/tools",
)
FILES = ("app/circuit_breaker.py",)
"""Single files beside the packages."""
NOT_MUTATED = ("__init__.py", "models.py", "schemas.py", "checks.py", "webhooks.py")
"""Declarations: tests/mutants.py has mutants of the constraints, and the nasty-input tests cover the fields."""

BILLING = ("tests/billing", "tests/test_wire.py", "tests/admin/test_corrections.py", "tests/test_machine.py")
PAYMENTS = ("tests/payments", "tests/admin/test_refunds.py", "tests/admin/test_purchases.py")
RECONCILIATION = ("tests/payments/test_reconcile.py", "tests/admin/test_reconciliation.py", *PAYMENTS)
TOOLS = ("tests/tools", "tests/test_wire.py", "tests/test_machine.py")
AUTH = ("tests/auth", "tests/test_hostile_clients.py", "tests/admin/test_api_keys.py")
ADMINS = ("tests/admin/sign_in", "tests/admin/sessions", "tests/auth/test_admins.py")
TOKENS = ("tests/auth/tokens", "tests/auth/test_user_tokens.py", "tests/admin/sign_in")
LIMITS = ("tests/auth/test_limits.py", "tests/auth/test_shared_limits.py", *AUTH)
BY_PACKAGE = {
    "app/accounts": BILLING,
    "app/billing": BILLING,
    "app/ledger": BILLING,
    "app/metering": BILLING,
    "app/tools": TOOLS,
    "app/payments": PAYMENTS,
    "app/auth": AUTH,
}
BY_FILE: dict[str, tuple[str, ...]] = {
    "app/accounts/activity.py": ("tests/admin/test_user_order.py", "tests/worker"),
    "app/accounts/directory.py": ("tests/billing/test_accounts.py", *BILLING, "tests/admin/test_erasure.py"),
    "app/accounts/erasure.py": ("tests/admin/test_erasure.py",),
    "app/accounts/queries.py": ("tests/billing/test_accounts.py", *BILLING, "tests/admin/test_erasure.py"),
    "app/accounts/router.py": ("tests/billing/test_accounts.py", *BILLING),
    "app/accounts/search.py": ("tests/admin/test_search.py", "tests/admin/test_users.py"),
    "app/accounts/search_queries.py": ("tests/admin/test_search.py", "tests/admin/test_erasure.py", "tests/worker"),
    "app/accounts/service.py": ("tests/billing/test_accounts.py", *BILLING, "tests/risk"),
    "app/auth/admins/admins.py": ADMINS,
    "app/auth/admins/queries.py": ADMINS,
    "app/auth/admins/sessions.py": ADMINS,
    "app/auth/admins/sign_in.py": ADMINS,
    "app/auth/api_keys/brute_force.py": ("tests/auth/test_authentication.py", *AUTH),
    "app/auth/api_keys/hashing.py": ("tests/auth/test_argon2.py", *AUTH),
    "app/auth/api_keys/key_route.py": ("tests/auth/test_key_route.py", *AUTH),
    "app/auth/api_keys/keys.py": ("tests/auth/test_keys.py", *AUTH),
    "app/auth/api_keys/last_used.py": ("tests/auth/test_last_used.py", *AUTH),
    "app/auth/api_keys/service.py": ("tests/auth/test_key_management.py", *AUTH, "tests/test_cli.py"),
    "app/auth/authenticator.py": (*AUTH, *TOKENS),
    "app/auth/cache.py": ("tests/auth/test_authentication.py", *AUTH),
    "app/auth/client_address.py": ("tests/auth/test_addresses.py", "tests/auth/test_limits.py", *AUTH),
    "app/auth/client_certificate.py": ("tests/auth/test_certificates.py", *AUTH),
    "app/auth/id_tokens/jwks.py": TOKENS,
    "app/auth/id_tokens/queries.py": (*TOKENS, *AUTH),
    "app/auth/id_tokens/revocations.py": (*TOKENS, *AUTH),
    "app/auth/id_tokens/verifier.py": TOKENS,
    "app/auth/rate_limits/redis_buckets.py": LIMITS,
    "app/auth/rate_limits/token_buckets.py": LIMITS,
    "app/auth/spelling.py": ("tests/auth/test_spelling.py", *AUTH),
    "app/billing/descriptions.py": ("tests/billing/test_descriptions.py", *BILLING),
    "app/billing/free_grants.py": ("tests/admin/test_free_grants.py", "tests/billing"),
    "app/billing/posting.py": (*BILLING, "tests/payments"),
    "app/billing/service.py": (*BILLING, "tests/risk"),
    "app/ledger/locked_account.py": (*BILLING, "tests/payments"),
    "app/ledger/pools.py": ("tests/billing/test_pools.py", *BILLING),
    "app/ledger/queries.py": (*BILLING, "tests/test_verify.py"),
    "app/ledger/verification.py": ("tests/test_verify.py",),
    "app/metering/llm_usage.py": ("tests/billing/test_llm_usage.py", "tests/sdk/test_client.py", "tests/test_wire.py"),
    "app/metering/schemas.py": ("tests/billing/test_llm_usage.py", "tests/test_wire.py"),
    "app/circuit_breaker.py": ("tests/test_circuit_breaker.py", "tests/payments/test_stripe_outage.py", *TOKENS),
    "app/payments/currencies.py": ("tests/test_currencies.py", *PAYMENTS),
    "app/payments/event_log.py": RECONCILIATION,
    "app/payments/event_queries.py": ("tests/payments/test_provider_keys.py", *RECONCILIATION),
    "app/payments/facts.py": ("tests/payments/test_disputes.py", "tests/payments/test_refunds.py", *PAYMENTS),
    "app/payments/inbox.py": ("tests/payments/test_webhooks.py", *PAYMENTS),
    "app/payments/opening.py": ("tests/payments/test_open_purchases.py", *PAYMENTS),
    "app/payments/packs.py": ("tests/payments/test_packs.py", *PAYMENTS),
    "app/payments/reconciliation_tally.py": RECONCILIATION,
    "app/payments/refund_reconciliation.py": RECONCILIATION,
    "app/payments/router.py": ("tests/payments/test_webhooks.py", *PAYMENTS),
    "app/payments/settlement.py": ("tests/payments/test_flow.py", "tests/payments/test_refunds.py", *PAYMENTS),
    "app/payments/stripe_events.py": ("tests/payments/test_webhooks.py", *PAYMENTS),
}


def mutated_files() -> list[str]:
    """Paths of the files whose decisions are mutated, from the project's folder."""
    found = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    inside = (str(path.relative_to(ROOT)) for path in found if path.name not in NOT_MUTATED)
    return [*FILES, *inside]


def selected_tests(file: str) -> tuple[str, ...]:
    """Test files and folders, each once."""
    package = "/".join(Path(file).parts[:2])
    return tuple(dict.fromkeys(BY_FILE[file] if file in BY_FILE else BY_PACKAGE[package]))
