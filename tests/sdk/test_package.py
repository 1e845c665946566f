"""The package is complete, light, and documented."""

import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_type_hints

import pytest

import ciris_billing
from ciris_billing.models import UserFields
from tests.databases import ROOT

SDK = ROOT / "sdk"


def test_wheel_is_complete(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=SDK, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("ciris_billing/")}
        info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    sources = SDK / "src" / "ciris_billing"
    assert packed == {
        str(file.relative_to(SDK / "src")) for file in sources.rglob("*") if file.suffix in (".py", ".typed")
    }
    assert "ciris-billing-qa = ciris_billing.qa.__main__:main" in entry_points
    required = {line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-")}
    needed = {re.split(r"[<>=;\[ ]", line)[0] for line in required if "extra" not in line and "Python" not in line}
    assert needed == {"httpx", "pydantic"}


def test_nothing_else_is_imported() -> None:
    """An import of the client alone imports neither an extra's package nor the service's own code."""
    others = "{'fastapi', 'litellm', 'mcp', 'app'}"
    code = f"import sys, ciris_billing; print(sorted({{m.split('.')[0] for m in sys.modules}} & {others}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


METHODS = [
    *("check_credit", "charge", "was_charged", "get_charge", "add_credits", "get_or_create_account", "get_account"),
    *("transactions", "packs", "create_purchase", "purchase_status", "wait_for_purchase"),
    *("tool_balance", "tool_balances", "tool_check", "tool_charge", "health", "gate"),
    *("find_charge", "charge_batch"),
    *("plans", "subscribe", "subscription", "change_subscription", "cancel_subscription", "resume_subscription"),
    *("subscription_portal", "buy_money", "payment_page", "auto_refill", "set_auto_refill"),
    *("cards", "save_card", "make_card_primary", "remove_card", "signup_grant", "daily_grant", "referral_grant"),
    *("report_llm_usage", "report_usage", "report_usage_batch", "check_usage", "quote"),
    *("open_cost_record", "add_cost_record_item", "complete_cost_record", "get_cost_record", "record"),
    *("create_hold", "capture_hold", "release_hold", "extend_hold", "report_hold", "get_hold", "hold", "watch"),
    *("limits", "set_limit", "remove_limit", "get_approval"),
    *("create_run", "change_run", "get_run", "run_page", "run"),
]


WITHOUT_USER_FIELDS = {
    *("get_charge", "charge_batch", "health", "report_usage", "report_usage_batch", "check_usage", "quote"),
    *("open_cost_record", "add_cost_record_item", "complete_cost_record", "get_cost_record", "record"),
    *("create_hold", "capture_hold", "release_hold", "extend_hold", "report_hold", "get_hold", "hold", "watch"),
    *("remove_limit", "get_approval"),
    *("plans", "subscribe", "subscription", "change_subscription", "cancel_subscription", "resume_subscription"),
    *("subscription_portal", "buy_money", "payment_page", "auto_refill", "set_auto_refill"),
    *("cards", "save_card", "make_card_primary", "remove_card", "referral_grant"),
    *("create_run", "change_run", "get_run", "run_page", "run"),
}


@pytest.mark.parametrize("method", METHODS)
def test_both_clients_have_the_method_with_the_same_signature(method: str) -> None:
    """A user is one value or keywords; the return values of the two differ only in being awaited."""
    clients = ciris_billing.BillingClient, ciris_billing.AsyncBillingClient
    blocking, awaited = (inspect.signature(getattr(client, method)) for client in clients)
    assert list(blocking.parameters.values())[1:] == list(awaited.parameters.values())[1:]
    if method not in WITHOUT_USER_FIELDS:
        assert blocking.parameters["user"].default is None
        assert get_type_hints(UserFields).keys() >= {"oauth_provider", "external_id"}
        assert "UserFields" in str(blocking.parameters["user_fields"].annotation)


def test_every_public_name_is_there_and_errors_are_documented() -> None:
    readme = (SDK / "README.md").read_text(encoding="utf-8")
    for name in ciris_billing.__all__:
        thing = getattr(ciris_billing, name)
        if isinstance(thing, type) and issubclass(thing, ciris_billing.BillingError):
            concrete = thing not in (ciris_billing.BillingError, ciris_billing.Unavailable)
            of_purchases = name.startswith("Purchase") or thing is ciris_billing.InvalidReply
            assert not concrete or of_purchases or f"`{name}`" in readme, name


def test_client_works_without_posix_locks() -> None:
    """Only the reporter needs them: the package can be imported where they do not exist."""
    code = "import sys; sys.modules['fcntl'] = None; import ciris_billing, ciris_billing.usage; print('imported')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "imported\n", done.stderr
