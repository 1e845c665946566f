"""The version, the changelog and the workflow that releases them agree."""

import subprocess
import tomllib

import yaml

from app.health.router import VERSION
from tests.databases import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def notes(version: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROOT / "scripts" / "release-notes", version], capture_output=True, text=True, check=False)


def test_the_version_has_notes_and_an_unknown_one_has_none() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == VERSION
    found = notes(VERSION)
    assert found.returncode == 0
    assert found.stdout.strip()
    assert found.stdout.strip() in CHANGELOG
    assert "## " not in found.stdout.replace("### ", "")
    assert notes("9.9.9").returncode == 1


def test_unreleased_changes_come_first() -> None:
    headings = [line for line in CHANGELOG.splitlines() if line.startswith("## ")]
    assert headings[0] == "## [Unreleased]"
    assert any(VERSION in heading for heading in headings[1:])


def test_ci_runs_on_every_supported_python_and_postgresql() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert [each["version"] for each in jobs["postgresql"]["strategy"]["matrix"]["include"]] == ["15", "18"]


def test_no_workflow_has_more_rights_than_it_asks_for_by_job() -> None:
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, file.name
        assert all(job.get("timeout-minutes") or job.get("uses") for job in workflow["jobs"].values()), file.name
