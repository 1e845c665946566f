"""Software bill of materials of the image, as CycloneDX 1.6 (JSON): locked Python packages and the pages' npm packages.

    python docker/sbom.py > sbom.cdx.json

Computed from the locks alone, so that the result is the same on every machine. Omits packages for other systems.
"""

import base64
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parent.parent
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]*?))? *(?P<hashes>(?:--hash.*)?)$")
Component = dict[str, Any]


def python_packages(lock: str) -> Iterator[Component]:
    """Return the pins of a requirements lock, with the digests of the files that may be installed."""
    for line in lock.replace("\\\n", " ").splitlines():
        found = PIN.match(re.sub(r"\s+", " ", line).strip())
        assert found is not None, f"not a pin: {line}"
        if "sys_platform == 'win32'" in (found["marker"] or ""):
            continue
        purl = f"pkg:pypi/{found['name'].lower()}@{found['version']}"
        digests = re.findall(r"--hash=sha256:([0-9a-f]{64})", found["hashes"])
        yield component(found["name"], found["version"], purl, [{"alg": "SHA-256", "content": d} for d in digests])


def npm_packages(lock: str) -> Iterator[Component]:
    """Return the packages in the built pages: those of a package-lock.json that are not for development."""
    seen = set()
    for path, entry in json.loads(lock)["packages"].items():
        name = path.rpartition("node_modules/")[2]
        purl = f"pkg:npm/{quote(name)}@{entry.get('version')}"
        if path and not entry.get("dev") and not entry.get("optional") and purl not in seen:
            seen.add(purl)
            digest = base64.b64decode(entry["integrity"].removeprefix("sha512-")).hex()
            yield component(name, entry["version"], purl, [{"alg": "SHA-512", "content": digest}])


def component(name: str, version: str, purl: str, hashes: list[dict[str, str]]) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "hashes": hashes}


def bill_of_materials(root: Path) -> dict[str, Any]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    purl = f"pkg:pypi/{project['name']}@{project['version']}"
    main = {"type": "application", "bom-ref": purl, "name": project["name"], "version": project["version"]}
    components = [
        *python_packages((root / "docker" / "requirements.lock").read_text(encoding="utf-8")),
        *npm_packages((root / "admin-ui" / "package-lock.json").read_text(encoding="utf-8")),
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": main},
        "components": components,
    }


if __name__ == "__main__":
    json.dump(bill_of_materials(ROOT), sys.stdout, indent=1)
