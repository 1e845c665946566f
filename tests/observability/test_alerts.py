"""Alerts fire when they should, say what to do, and query metrics that exist; so do the dashboards."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml

from tests.conftest import ClientFor
from tests.databases import ROOT, Urls
from tests.test_docs import commands

PROMETHEUS = ROOT / "docker" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARDS = sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
PROMTOOL = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:{ROOT / '.tools/prometheus/usr/bin'}")
SECTIONS = ["## What it means", "## How to look", "## How to put it right"]
NOT_OURS = {"up"}
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}

RULES: dict[str, Any] = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
ALL = [rule for group in RULES["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
TESTS: dict[str, Any] = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8"))


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> None:
    if PROMTOOL is None:
        assert "REQUIRE_PROMTOOL" not in os.environ, "missing: promtool"
        pytest.skip("needs promtool (make promtool); REQUIRE_PROMTOOL=1 makes this a failure")
    command = [PROMTOOL, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def panels() -> list[tuple[str, str]]:
    """(where, expression) of everything that the dashboards ask."""
    boards = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in DASHBOARDS]
    return [
        (f"{name}: {panel['title']}", target["expr"].replace("$__rate_interval", "5m"))
        for name, board in boards
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def metrics_of(expression: str) -> set[str]:
    """The names of the series that an expression asks for."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]', " ", re.sub(r'\{(?:"[^"]*"|[^}"])*\}', " ", expression))
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[A-Za-z_:][\w:]*(?![\w:]|\s*\()", bare)) - WORDS


def test_names_are_found_in_expressions() -> None:
    assert metrics_of('sum by (le) (rate(a:b{c="d}", e=~"f"}[5m])) / on (x) g_total > 3 and h') == {
        "a:b",
        "g_total",
        "h",
    }


def test_every_alert_fires_when_it_should_and_the_configuration_is_valid() -> None:
    promtool("check", "rules", "rules.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")
    promtool("test", "rules", "rules_test.yml")


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    cases = [case for test in TESTS["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_bad_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    page = ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text(encoding="utf-8")
    assert f"`{alert}`" in text
    assert re.findall(r"^## .*", text, flags=re.MULTILINE) == SECTIONS
    assert "```" in text, "no command to look with"


def test_every_runbook_is_some_alerts() -> None:
    used = {Path(rule["annotations"]["runbook_url"]).name for rule in ALERTS.values()}
    assert {page.name for page in RUNBOOKS.glob("*.md")} == used


async def test_what_runbooks_tell_to_type_can_be_typed(database: Urls) -> None:
    """As the service's role, which is whose `DATABASE_URL` an operator has at hand."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in RUNBOOKS.glob("*.md"))
    statements = re.findall(r'psql "\$DATABASE_URL" -c "([^"]+)"', text)
    assert len(statements) == text.count("psql ") > 10
    connection = await asyncpg.connect(database.service)
    for statement in statements:
        async with connection.transaction(readonly=True):
            await connection.execute(statement)
    await connection.close()
    typed = set(re.findall(r"ciris-billing ([a-z]+(?: [a-z]+)?)", text))
    assert typed <= set(commands()), typed - set(commands())
    assert {"ledger verify", "payments reconcile"} <= typed


def test_dashboards_can_be_read(tmp_path: Path) -> None:
    """By the parser that will read them."""
    rules = [{"record": f"panel:{number}", "expr": expr} for number, (_, expr) in enumerate(panels())]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", cwd=tmp_path)
    source = yaml.safe_load((ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text())
    assert len(DASHBOARDS) == 3
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["datasources"][0]["uid"]}
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


async def exposed(client: httpx.AsyncClient) -> set[str]:
    """Every series that `/metrics` has or can have."""
    text = (await client.get("/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))
    histograms = {
        f"{name}{end}" for name, kind in kinds.items() if kind == "histogram" for end in ("_bucket", "_count", "_sum")
    }
    return set(kinds) | histograms


async def test_alerts_and_dashboards_ask_only_for_what_there_is(client_for: ClientFor) -> None:
    known = await exposed(client_for(None)) | NOT_OURS
    recorded = {rule["record"] for rule in ALL if "record" in rule}
    queries = [*((rule.get("alert") or rule["record"], rule["expr"]) for rule in ALL), *panels()]
    for where, expression in queries:
        names = metrics_of(expression)
        assert names, where
        assert names <= known | recorded, f"{where} asks for {names - known - recorded}"


async def test_every_metric_of_ours_is_looked_at(client_for: ClientFor) -> None:
    """In an alert or on a dashboard: a metric that no one uses is not worth its scrape."""
    expressions = [*(rule["expr"] for rule in ALL), *(expr for _, expr in panels())]
    queried = {re.sub(r"_(bucket|count|sum)$", "", name) for expr in expressions for name in metrics_of(expr)}
    text = (await client_for(None).get("/metrics")).text
    ours = {
        name
        for name in re.findall(r"^# TYPE (billing_\S+) ", text, flags=re.MULTILINE)
        if not name.endswith("_created")
    }
    assert ours - queried == set()
