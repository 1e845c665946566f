"""The command `ciris-billing-qa`. Exit status: 0 all steps passed, 1 a step failed, 2 invalid arguments."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from ciris_billing._retry import check_address
from ciris_billing._wire import check_credential
from ciris_billing.qa import agent_flows, service_flows
from ciris_billing.qa.reports import Table, write_json, write_junit
from ciris_billing.qa.steps import TIMEOUT_S, Step, Target, run_steps

TEST_KEY = "cbk_test_"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ciris-billing-qa",
        description="Test a billing deployment's documented flows, with temporary users.",
    )
    parser.add_argument("--url", help="URL of the billing service; needs a key with billing:read and billing:write")
    parser.add_argument("--key", default=os.environ.get("BILLING_API_KEY"), help="default: $BILLING_API_KEY")
    parser.add_argument("--key-file", type=Path, help="file that contains the key")
    parser.add_argument("--live", action="store_true", help="allow a key that is not of the test environment")
    parser.add_argument("--agent-url", help="URL of an agent whose billing routes to test as well")
    parser.add_argument("--agent-token", default=os.environ.get("AGENT_TOKEN"), help="default: $AGENT_TOKEN")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report")
    return parser


def chosen(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed options. Exits with status 2 if they are not valid, before any request is sent."""
    command = parser()
    options = command.parse_args(arguments)
    if not options.url and not options.agent_url:
        command.error("specify --url or --agent-url")
    if options.agent_url and not options.agent_token:
        command.error("--agent-url needs a user's token: --agent-token or $AGENT_TOKEN")
    try:
        if options.key_file:
            options.key = options.key_file.read_text(encoding="utf-8").strip()
        for url in filter(None, (options.url, options.agent_url)):
            check_address(url)
        for report in filter(None, (options.json, options.junit)):
            report.touch()
        if options.url:
            check_credential(options.key or "", None)
    except (OSError, ValueError) as error:
        command.error(str(error))
    if options.url and not options.key:
        command.error("--url needs a key: --key, --key-file or $BILLING_API_KEY")
    if options.url and not options.key.startswith(TEST_KEY) and not options.live:
        command.error("the key is not of the test environment; add --live to use it")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = chosen(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # not every terminal supports the symbols
    with ExitStack() as stack:
        steps: list[tuple[Step, Target]] = []
        if options.url:
            http = stack.enter_context(_client(options.url, {"X-API-Key": options.key}))
            steps += _aimed(service_flows.suite.steps, Target(http))
        if options.agent_url:
            http = stack.enter_context(_client(options.agent_url, {"Authorization": f"Bearer {options.agent_token}"}))
            steps += _aimed(agent_flows.suite.steps, Target(http))
        table = Table(sys.stdout)
        results = []
        for result in run_steps(steps, table.begun):
            table.ended(result)
            results.append(result)
        table.summary(results)
    if options.json:
        write_json(options.json, results)
    if options.junit:
        write_junit(options.junit, results)
    return int(any(result.outcome == "failed" for result in results))


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)


def _aimed(steps: Sequence[Step], target: Target) -> list[tuple[Step, Target]]:
    return [(step, target) for step in steps]


if __name__ == "__main__":
    sys.exit(main())
