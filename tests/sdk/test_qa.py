"""The quality runner: passes against the real service and agent, and notices when one is not as documented."""

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from ciris_billing import AsyncBillingClient
from ciris_billing.fastapi import CIRISBillingProvider, SimpleCreditProvider
from ciris_billing.qa import agent_flows, service_flows
from ciris_billing.qa.__main__ import main
from tests.sdk.agent import create_agent
from tests.sdk.conftest import Service
from tests.servers import serving

Spoil = Callable[[str, dict[str, object], int], tuple[dict[str, object], int]]


def test_service_passes_and_reports_say_so(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text(service.keys.test + "\n", encoding="utf-8")
    reports = ["--json", str(tmp_path / "qa.json"), "--junit", str(tmp_path / "qa.xml")]
    status = main(["--url", service.url, "--key-file", str(key), *reports])
    printed = capsys.readouterr().out
    assert status == 0, printed
    steps = len(service_flows.suite.steps)
    assert printed.splitlines()[-1] == f"{steps} passed, 0 failed, 0 skipped"
    report = json.loads((tmp_path / "qa.json").read_text(encoding="utf-8"))
    assert (report["passed"], len(report["steps"])) == (steps, steps)
    assert all(step["duration_ms"] > 0 for step in report["steps"])
    suite = ElementTree.parse(tmp_path / "qa.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], len(suite)) == (str(steps), "0", steps)


def test_live_keys_need_insistence(
    service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--url", service.url, "--key", service.keys.agent])
    assert refused.value.code == 2
    assert "--live" in capsys.readouterr().err
    monkeypatch.setenv("BILLING_API_KEY", service.keys.agent)
    assert main(["--url", service.url, "--live"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--url", "http://127.0.0.1"],
        ["--agent-url", "http://127.0.0.1"],
        ["--url", "127.0.0.1:8000", "--key", "cbk_test_x"],
        ["--url", "https://[::1", "--key", "cbk_test_x"],
        ["--url", "http://127.0.0.1", "--key", "cbk_test_ключ"],
        ["--url", "http://127.0.0.1", "--key-file", "/nonexistent/key"],
        ["--url", "http://127.0.0.1", "--key", "cbk_test_x", "--junit", "/nonexistent/qa.xml"],
    ],
)
def test_incomplete_commands_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2


@pytest.mark.parametrize(("simple", "skipped"), [(False, 0), (True, 3)])
def test_agent_passes(service: Service, simple: bool, skipped: int, capsys: pytest.CaptureFixture[str]) -> None:
    provider = SimpleCreditProvider() if simple else CIRISBillingProvider(_client(service))
    with serving(create_agent(provider)) as url:
        status = main(["--agent-url", url, "--agent-token", "qa-user@example.com"])
    printed = capsys.readouterr().out
    assert status == 0, printed
    passed = len(agent_flows.suite.steps) - skipped
    assert printed.splitlines()[-1] == f"{passed} passed, 0 failed, {skipped} skipped"


def _client(service: Service) -> AsyncBillingClient:
    return AsyncBillingClient(service.url, service.keys.agent)


def renamed_field(path: str, body: dict[str, object], status: int) -> tuple[dict[str, object], int]:
    if path.endswith("/credits/check") and "has_credit" in body:
        body["hasCredit"] = body.pop("has_credit")
    return body, status


def replay_as_new(path: str, body: dict[str, object], status: int) -> tuple[dict[str, object], int]:
    return body, 201 if status == 409 else status


def unpaid_as_paid(path: str, body: dict[str, object], status: int) -> tuple[dict[str, object], int]:
    return body, 201 if status == 402 else status


def everything_broken(path: str, body: dict[str, object], status: int) -> tuple[dict[str, object], int]:
    return {}, 200


@pytest.fixture
def spoiled(service: Service) -> Iterator[Callable[[Spoil], str]]:
    """The real service behind a server that spoils its answers."""
    spoil: list[Spoil] = []
    upstream = httpx.Client(base_url=service.url, timeout=10)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {"X-API-Key": self.headers["x-api-key"], "Content-Type": "application/json"}
            answer = upstream.request(self.command, self.path, content=content, headers=headers)
            body, status = spoil[0](self.path, answer.json(), answer.status_code)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST  # noqa: N815  # the base class's name

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def begin(how: Spoil) -> str:
        spoil.append(how)
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    server.shutdown()
    server.server_close()
    thread.join(5)
    upstream.close()


@pytest.mark.parametrize(
    ("how", "noticed"),
    [
        (renamed_field, "Credit check of a new user"),
        (replay_as_new, "The same charge again costs nothing"),
        (unpaid_as_paid, "Charges end with the credit"),
        (everything_broken, "Tool charges"),
    ],
)
def test_what_is_not_as_documented_is_noticed(
    service: Service,
    spoiled: Callable[[Spoil], str],
    how: Spoil,
    noticed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, junit = spoiled(how), tmp_path / "qa.xml"
    assert main(["--url", url, "--key", service.keys.test, "--junit", str(junit)]) == 1
    assert f"✗ service  {noticed}" in capsys.readouterr().out
    failures = {
        case.attrib["name"] for case in ElementTree.parse(junit).iter("testcase") if len(case.findall("failure"))
    }
    assert noticed in failures


def test_terminal_that_knows_no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["--url", "http://127.0.0.1:1", "--key", "cbk_test_x"]) == 1
    terminal.seek(0)
    assert "? service  Health" in terminal.read()


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:1", "--key", "cbk_test_x"]) == 1
    assert "ConnectError" in capsys.readouterr().out
