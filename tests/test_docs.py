"""Settings, error codes and commands are documented, and every documented one exists."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

import app
from app.cli import cli
from app.errors import AppError
from app.payments.stripe_objects import HANDLED
from app.settings import Settings
from tests.databases import ROOT

SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CODES_OF_THE_FRAMEWORK = {
    "head_too_large",
    "validation_error",
    "bad_request",
    "not_found",
    "method_not_allowed",
    "body_too_large",
}
CODES_OF_REPLAYS = {"charge_exists", "credit_exists", "duplicate_event", "grant_exists"}


def default_of(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, dict):
        entries = (f'"{name}": {item.model_dump_json(exclude_unset=True)}' for name, item in value.items())
        return f"`{{{', '.join(entries)}}}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def settings_table() -> str:
    rows = [f"| `{n.upper()}` | {default_of(f)} | {f.description} |" for n, f in Settings.model_fields.items()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def test_settings_page_lists_every_setting_as_it_is() -> None:
    documented = SETTINGS.split("<!-- settings -->\n")[1].split("\n<!-- /settings -->")[0]
    assert documented == settings_table(), f"put this into docs/settings.md:\n{settings_table()}"


def test_deployment_lists_every_event_of_stripe_that_is_handled() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    documented = text.split("<!-- stripe events -->\n")[1].split("\n<!-- /stripe events -->")[0]
    expected = "\n".join(f"- `{kind}`" for kind in sorted(HANDLED))
    assert documented == expected, f"put this into docs/deployment.md:\n{expected}"


def error_classes() -> Iterator[type[AppError]]:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if not module.name.startswith("app.demo"):
            importlib.import_module(module.name)
    waiting = [AppError]
    while waiting:
        error = waiting.pop()
        yield error
        waiting.extend(error.__subclasses__())


def test_every_error_code_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", ERRORS, flags=re.MULTILINE))
    codes = {error.code for error in error_classes()} | CODES_OF_THE_FRAMEWORK | CODES_OF_REPLAYS
    assert documented == codes


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: error.__name__)
def test_documented_status_is_the_real_one(error: type[AppError]) -> None:
    assert re.search(rf"^\| `{error.code}` \| {error.status} \|", ERRORS, flags=re.MULTILINE)


def commands() -> Iterator[str]:
    for name, command in get_command(cli).commands.items():  # type: ignore[attr-defined]  # a group, typed as a command
        yield from (f"{name} {sub}" for sub in command.commands) if hasattr(command, "commands") else [name]


def test_commands_page_lists_every_command() -> None:
    section = COMMANDS.split("## Make targets")[0]
    documented = set(re.findall(r"`([a-z]+(?: [a-z-]+)?)`", "\n".join(re.findall(r"^\| (`.*?) \|", section, re.M))))
    assert documented == set(commands())


def test_make_targets_of_the_documentation_exist() -> None:
    defined = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    documented = set(re.findall(r"^\| `make ([a-z]+)", COMMANDS, re.MULTILINE))
    assert {"run", "test", "unit"} <= documented <= defined


def test_the_map_of_the_code_has_every_package() -> None:
    table = (ROOT / "app" / "README.md").read_text(encoding="utf-8").split("## Where is")[0]
    packages = {path.parent.name for path in (ROOT / "app").glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}`" not in table} == set(), "add a row to app/README.md"


def test_files_that_the_packages_describe_exist() -> None:
    for page in (ROOT / "app").rglob("README.md"):
        for name in re.findall(r"`([\w/-]+\.py)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists() or next(page.parent.rglob(name), None), f"{page.relative_to(ROOT)}: {name}"


def test_links_lead_somewhere() -> None:
    """Checks the pages outside docs/. The site's build checks those inside (tests/sdk/test_site.py)."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("admin-ui", "sdk", "tests")),
    ]
    pages += [*(ROOT / "examples").rglob("*.md"), *(ROOT / "app").rglob("README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
