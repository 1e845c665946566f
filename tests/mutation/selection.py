"""The files that are mutated, and the tests that may notice: see recording.py, which finds who executes what."""

from tests.databases import ROOT

PACKAGES = ("accounts", "auth", "billing", "ledger", "metering", "payments", "tools")
FILES = ("app/circuit_breaker.py",)
"""Single files beside the packages."""
NOT_MUTATED = ("__init__.py", "models.py", "schemas.py", "checks.py", "webhooks.py")
"""Declarations: tests/mutants.py has mutants of the constraints, and the nasty-input tests cover the fields."""

FOLDERS = (
    *("accounts", "auth", "billing", "metering", "payments", "tools", "wallet"),
    *("admin", "limits", "live", "neighbours", "risk", "worker"),
)
SINGLE = (
    *("batch_transactions", "circuit_breaker", "cli", "currencies", "hostile_callers", "hostile_clients", "machine"),
    *("error_wording", "lost_connections", "nasty_input", "read_only", "setting_values", "status", "verify", "wire"),
)
ELSEWHERE = ("observability/test_metrics.py", "observability/test_logs.py", "sdk/test_client.py")
NOT_ASKED = ("test_browser.py", "test_pages.py", "test_files.py", "test_crowd.py", "test_analytics_counting.py")
"""Browsers, built files and large data sets: slow, and about something else."""


def mutated_files() -> list[str]:
    """Paths of the files whose decisions are mutated, from the project's folder."""
    found = (path for package in PACKAGES for path in sorted((ROOT / "app" / package).rglob("*.py")))
    inside = (str(path.relative_to(ROOT)) for path in found if path.name not in NOT_MUTATED)
    return [*FILES, *inside]


def noticing_files() -> list[str]:
    """Paths of the test files that may notice."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / "tests" / folder).rglob("test_*.py"))]
    found += [ROOT / "tests" / path for path in (*(f"test_{name}.py" for name in SINGLE), *ELSEWHERE)]
    return [str(path.relative_to(ROOT)) for path in found if path.name not in NOT_ASKED]
