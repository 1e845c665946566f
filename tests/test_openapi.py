"""The API's description: committed, current, complete, and true for every input a machine can think of."""

import asyncio
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.auth.admins.admins import add_admin
from app.auth.admins.sessions import AdminSessions
from app.auth.caller import Permission
from app.db import Database
from app.main import create_app
from app.settings import Settings
from tests.conftest import make_key, settings_for
from tests.databases import ROOT, Urls
from tests.demo.oidc_server import running_oidc
from tests.servers import running_server, running_stripe

LOGOUT = "/admin/oauth/logout"
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
                missing = DOCUMENTED_BY_AUTH - set(operation["responses"])  # type: ignore[call-overload]  # JSON, untyped
                assert not missing, f"{method} {path} does not describe {missing}"


@pytest.mark.timeout(900)  # several thousand requests, which take four minutes on a busy machine
async def test_no_input_gives_a_server_error(own_database: Urls) -> None:
    """Schemathesis over the whole description, against a real server: no 5xx, and every answer as described."""
    secret = "a secret of the tests, long enough"
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    async with db.transaction() as tx:
        await add_admin(tx, "ada@ciris.ai", "admin", now=datetime.now(UTC))
        session = await AdminSessions(db, settings_for(own_database, admin_session_secret=secret)).open_for_script(
            tx, "ada@ciris.ai", now=datetime.now(UTC)
        )
    await db.close()
    with running_stripe() as stripe, running_oidc() as oidc:
        environment = {
            **stripe.environment,
            "ADMIN_SESSION_SECRET": secret,
            "ADMIN_OAUTH_ISSUER": oidc.issuer,
            "ADMIN_OAUTH_CLIENT_ID": "spa-client",
        }
        with running_server(own_database, env=environment) as server:
            command = [str(SCHEMATHESIS), "run", f"{server.url}/openapi.json", "--no-color", "--continue-on-failure"]
            command += ["--header", f"X-API-Key: {key}", "--header", f"Authorization: Bearer {session}"]
            command += ["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"]
            command += ["--max-examples", "10", "--request-timeout", "10", "--suppress-health-check", "all"]
            command += ["--exclude-path", LOGOUT]  # it would end the session of all that follows
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=840)
            unhandled = [line for line in server.printed().splitlines() if "unhandled_error" in line]
            assert unhandled == []
    found = done.stdout[done.stdout.find("= FAILURES =") :]
    assert done.returncode == 0, found[:8000] + done.stdout[-2000:] + done.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    described = description(settings_for(own_database))["paths"]
    assert tested, done.stdout
    assert int(tested[1]) == sum(len(operations) for path, operations in described.items() if path != LOGOUT)
