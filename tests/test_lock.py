"""The locked packages are those that pyproject.toml requires, pinned and hashed, from any index that the user has."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1]
LOCKS = (
    "requirements.lock",
    "docs/requirements.lock",
    "scripts/bootstrap.lock",
    "scripts/node.lock",
    "sdk/litellm.lock",
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with the options that follow it."""
    logical_lines = (PROJECT / lock).read_text().replace("\\\n", " ").splitlines()
    split = [re.split(r"\s+(?=--)", line.strip()) for line in logical_lines]
    return [(Requirement(requirement), options) for requirement, *options in split]


def declared() -> list[Requirement]:
    with (PROJECT / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        pyproject["build-system"]["requires"],
    ]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_declared_requirement_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    pins = [pin for pin, _ in entries("requirements.lock") if canonicalize_name(pin.name) == name]
    assert pins, f"{requirement} is not in requirements.lock: make lock"
    for pin in pins:
        (specifier,) = pin.specifier
        assert requirement.specifier.contains(Version(specifier.version), prereleases=True), f"{pin}: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_one_exact_version_with_hashes(lock: str) -> None:
    found = entries(lock)
    assert found
    for pin, options in found:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert options, f"{pin} has no hash"
        assert all(HASH.fullmatch(option) for option in options), f"{pin}: {options}"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_that_packages_come_from(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert "#" not in text
    assert not re.search(r"://| @ |--(?!hash=sha256:)", text)


def test_the_pages_lock_has_digests_and_no_addresses() -> None:
    text = (PROJECT / "admin-ui" / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "://" not in text


def test_no_lock_in_uvs_own_format_is_kept() -> None:
    """That one carries the addresses of the index it was made with."""
    assert not (PROJECT / "uv.lock").exists()
