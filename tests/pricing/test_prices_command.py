"""`ciris-billing prices`, as an operator types it: from the import to prices in force."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.clock import utc_now
from app.db import Database
from app.pricing import seed
from app.pricing.book import BookDocument
from app.pricing.compiled import UnknownModel
from app.pricing.importing import command as importing
from app.pricing.unknown_models import UnknownModels
from tests.conftest import settings_for
from tests.databases import ROOT, Urls
from tests.pricing.books import document, row
from tests.processes import Printed, run_command
from tests.servers import environment

DONE, FAILED, USAGE = 0, 1, 2
WHY = ("--reason", "because")
OTHER = {"source": "other", "source_version": "2", "tariff": {"prices": {"input_uncached": "2", "output_text": "2"}}}


@pytest.fixture
def env(own_database: Urls) -> dict[str, str]:
    return environment(own_database)


def prices(env: dict[str, str], *arguments: str) -> Printed:
    done = run_command({**os.environ, **env}, "prices", *arguments, stdin=os.devnull)
    assert "Traceback" not in done.err, done.err
    return done


def states(env: dict[str, str]) -> dict[int, str]:
    return {found["version"]: found["state"] for found in prices(env, "list", "--json").json}


def test_an_import_is_a_proposal_until_it_is_activated(env: dict[str, str]) -> None:
    made = prices(env, "import", "--json")
    assert made.status == DONE
    assert made.json["version"] == 1
    assert (made.json["based_on"], made.json["removed"], made.json["changed"]) == (None, 0, 0)
    assert made.json["rows"] == sum(made.json[name] for name in ("agreed", "single_source", "disputed"))
    assert states(env) == {1: "proposed"}
    first = prices(env, "activate", "1", *WHY, "--at", "2026-11-01T00:00:00Z", "--json")
    assert first.json == {"version": 1, "effective_at": "2026-11-01 00:00:00+00:00"}
    assert states(env) == {1: "in_force"}
    again = prices(env, "import")
    assert (again.status, "Nothing has changed" in again.err) == (DONE, True)
    disputed = prices(env, "show", "1", "--status", "disputed", "--json").json
    assert len(disputed) == made.json["disputed"]
    agreed = prices(env, "show", "1", "--provider", "openai", "--status", "agreed", "--json").json
    assert any(found["id"].startswith("openai/gpt-4o") for found in agreed)


def test_the_shipped_data_needs_no_package(env: dict[str, str]) -> None:
    made = prices(env, "import", "--shipped", "--json")
    assert (made.status, made.json["version"]) == (DONE, 1)
    assert made.json["agreed"] > 200


def test_the_packages_are_optional(own_database: Urls, tmp_path: Path) -> None:
    for name in ("genai_prices", "model_prices"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError('absent', name={name!r})")
    without = {**os.environ, **environment(own_database), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def typed(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "app.cli", "prices", "import", *options]
        return subprocess.run(command, cwd=ROOT, env=without, capture_output=True, text=True, check=False, timeout=60)

    refused = typed()
    assert (refused.returncode, refused.stdout) == (FAILED, "")
    assert refused.stderr.startswith("genai_prices is not installed: pip install 'ciris-billing[prices]', or use")
    assert len(refused.stderr.splitlines()) == 1, "no traceback"
    made = typed("--shipped", "--json")
    assert (made.returncode, json.loads(made.stdout)["version"]) == (DONE, 1), made.stderr


def test_the_shipped_data_is_written_without_a_database(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    nowhere = {**env, "DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}
    done = prices(nowhere, "import", "--write", str(file))
    assert (done.status, done.out) == (DONE, ""), done.err
    written = BookDocument.model_validate_json(file.read_bytes())
    assert written == importing.from_packages(None, utc_now()).document
    assert written.notices == seed.read().notices


def test_a_file_is_proposed_confirmed_compared_and_activated(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "book.json"
    disputed = row(id="p/m", status="disputed", source="first", others=[OTHER])
    file.write_text(document(llm=[disputed]).model_dump_json(), encoding="utf-8")
    assert prices(env, "propose", str(file), *WHY, "--json").json == {"version": 1}
    assert prices(env, "activate", "1", *WHY).status == DONE
    assert prices(env, "confirm", "1", "--row", "p/m", "--source", "other", *WHY, "--json").json == {"version": 2}
    changes = prices(env, "diff", "2", "--json").json
    assert {change["field"]: (change["before"], change["after"]) for change in changes} == {
        "prices.input_uncached": ("1", "2"),
        "prices.output_text": ("1", "2"),
        "status": ("disputed", "confirmed"),
    }
    assert prices(env, "diff", "1", "--against", "1", "--json").json == []
    assert prices(env, "activate", "2", *WHY, "--at", "2099-01-01T00:00:00Z").status == DONE
    assert states(env) == {1: "in_force", 2: "scheduled"}
    assert prices(env, "activate", "2", *WHY).status == DONE
    assert states(env) == {1: "replaced", 2: "in_force"}
    shown = json.loads(prices(env, "show", "2", "--document").out)
    assert shown["llm"][0]["prices"] == {"input_uncached": "2", "output_text": "2"}


def test_wrong_usage_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"name": "x", "currency": "USD", "minimum_charge": 0.5}', encoding="utf-8")
    refused = prices(env, "propose", str(bad), *WHY)
    assert (refused.status, refused.out) == (FAILED, "")
    assert refused.err.startswith("minimum_charge: Value error, must be text")
    aliased = document(llm=[row(provider="bedrock")], provider_aliases={"bedrock": "aws"})
    bad.write_text(aliased.model_dump_json(), encoding="utf-8")
    unreached = prices(env, "propose", str(bad), *WHY)
    assert (unreached.status, unreached.out) == (FAILED, "")
    assert unreached.err == "llm: row row names the provider bedrock, which is an alias of aws\n"
    assert prices(env, "propose", str(tmp_path / "none.json"), *WHY).status == FAILED
    for arguments in (("show", "7"), ("diff", "7"), ("activate", "7", *WHY), ("confirm", "7", "--row", "r", *WHY)):
        missing = prices(env, *arguments)
        assert (missing.status, missing.err) == (FAILED, "There is no price book of version 7\n")
    assert prices(env, "activate", "1", *WHY, "--at", "soon").status == USAGE
    assert prices(env, "activate", "1").status == USAGE  # without a reason


async def test_unknown_models_are_listed(env: dict[str, str], own_database: Urls) -> None:
    db = Database(settings_for(own_database).database_url, pool_size=5)
    models = UnknownModels(db)
    models.note(UnknownModel("openai", "gpt-next", "no_row"), utc_now(), stated_price=False)
    await models.flush()
    await db.close()
    listed = prices(env, "unknown", "--json").json
    assert [(found["provider"], found["model"], found["events"]) for found in listed] == [("openai", "gpt-next", 1)]
