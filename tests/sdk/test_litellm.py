"""LiteLLM itself against the service: its scenarios run in an environment of their own, what they left is read here."""

import asyncio
import os
import subprocess
from typing import Any

import pytest
from sqlalchemy import text

from app.db import Database
from tests.databases import ROOT
from tests.sdk.conftest import Service

PYTHON = ROOT / ".tools" / "litellm" / "bin" / "python"
REPORTS = text(
    "SELECT u.* FROM llm_usage u JOIN account_identities i USING (account_id)"
    " WHERE i.external_id = :external_id ORDER BY u.created_at"
)


async def reports(db: Database, user: str) -> list[dict[str, Any]]:
    async with db.transaction() as tx:
        rows = await tx.execute(REPORTS, {"external_id": f"{user}@example.com"})
        return [dict(row) for row in rows.mappings()]


@pytest.fixture(scope="module")
async def scenarios(service: Service) -> list[str]:
    """What held. `make litellm` makes the environment; the prices of models come from the package, not from afar."""
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'sdk' / 'src'}",
        "BILLING_URL": service.url,
        "BILLING_API_KEY": service.keys.agent,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [PYTHON, ROOT / "tests" / "sdk" / "with_litellm.py"]
    done = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    return done.stdout.splitlines()


@pytest.mark.xdist_group("litellm")
async def test_checks_before_charges_once_and_reports_each_call(scenarios: list[str], db: Database) -> None:
    assert scenarios == [
        "awaited",
        "same_name",
        "unnamed",
        "failing",
        "streamed",
        "in_block",
        "unpaid_after_all",
        "in_proxy",
        "service_away",
        "blocking",
    ]
    for user in ("in_block", "blocking"):
        print(await reports(db, user))
