"""The API's description: committed, current, complete, and true for every input a machine can think of."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr

from app.auth.caller import Permission
from app.config import Settings
from app.db import Database
from app.main import create_app
from tests.conftest import make_key, settings_for
from tests.databases import ROOT, Urls
from tests.servers import running_server, running_stripe

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
DOCUMENTED_BY_AUTH = {"401", "403", "429"}


def description(settings: Settings) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    described: dict[str, dict[str, dict[str, dict[str, object]]]] = create_app(settings).openapi()
    return described


def test_committed_description_is_current(settings: Settings) -> None:
    committed = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    assert committed == description(settings), "run: ciris-billing openapi > openapi.json"


def test_every_operation_describes_its_errors(settings: Settings) -> None:
    for path, operations in description(settings)["paths"].items():
        for method, operation in operations.items():
            if operation.get("security"):
                missing = DOCUMENTED_BY_AUTH - set(operation["responses"])  # type: ignore[call-overload]  # JSON
                assert not missing, f"{method} {path} does not describe {missing}"


async def test_no_input_gives_a_server_error(own_database: Urls) -> None:
    """Schemathesis over the whole description, against a real server: no 5xx, and every answer as described."""
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    with running_stripe() as stripe, running_server(own_database, env=stripe.environment) as server:
        command = [str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--header", f"X-API-Key: {key}"]
        command += ["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"]
        command += ["--continue-on-failure", "--max-examples", "30", "--request-timeout", "10", "--no-color"]
        command += ["--suppress-health-check", "all"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    operations = sum(len(operations) for operations in description(settings_for(own_database))["paths"].values())
    assert tested, done.stdout
    assert int(tested[1]) == operations
