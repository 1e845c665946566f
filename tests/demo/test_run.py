"""`make run` as a newcomer uses it: the real processes, the worked example, and nothing left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from tests.databases import ROOT
from tests.sdk.newcomer import work_through_the_quick_start
from tests.servers import free_port
from tests.support.browser import browser_lacks, require_browser, walk

START_TIMEOUT_S = 150  # seconds on an idle machine, a minute on one that is loaded seven times over
USER = {"oauth_provider": "oauth:google", "external_id": "newcomer@example.com"}
KEYS = ("api_key", "credit_key", "test_key", "usage_key", "money_key")
FACTS = {*KEYS, "base_url", "admin_url", "stripe_url", "oidc_url", "stripe_webhook_secret", "pid", "settings"}
PROCESSES = {"postgres", "create_stripe", "create_oidc", "serve", "worker", "guard.py"}


@dataclass(frozen=True)
class Demo:
    """A running demo: its supervisor, and what it says about itself."""

    process: "subprocess.Popen[bytes]"
    state_dir: Path
    facts: dict[str, Any]

    def client(self, key: str = "api_key") -> httpx.Client:
        return httpx.Client(base_url=self.facts["base_url"], headers={"X-API-Key": self.facts[key]}, timeout=10)

    def descendants(self) -> dict[int, str]:
        """Process id and command of everything it has started, however far down."""
        listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        found, waiting = {}, [self.process.pid]
        while waiting:
            parent = waiting.pop()
            for pid, ppid, *arguments in rows:
                if int(ppid) == parent:
                    found[int(pid)] = " ".join(arguments)
                    waiting.append(int(pid))
        return {pid: command for pid, command in found.items() if not command.startswith("ps ")}

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def demo_environment(port: int) -> dict[str, str]:
    unwanted = ("DATABASE_URL", "DATABASE_OWNER_URL", "MODE")
    return {**{n: v for n, v in os.environ.items() if n not in unwanted}, "PORT": str(port)}


@contextlib.contextmanager
def running_demo(state_dir: Path, port: int) -> Iterator[Demo]:
    summary = state_dir / "demo.json"
    summary.unlink(missing_ok=True)  # left by an earlier run
    with (state_dir.parent / "demo.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "demo", "--no-ui", "--no-traffic", "--state-dir", str(state_dir)],
            cwd=ROOT,
            env=demo_environment(port),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not summary.exists():
                assert process.poll() is None, (state_dir.parent / "demo.out").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield Demo(process, state_dir, json.loads(summary.read_text(encoding="utf-8")))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "var"


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def assert_all_ended(pids: dict[int, str], within_s: float = 0) -> None:
    deadline = time.monotonic() + within_s
    while left := {pid: command for pid, command in pids.items() if is_alive(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def charge(client: httpx.Client, key: str) -> httpx.Response:
    body = {**USER, "amount_minor": 100, "currency": "USD", "idempotency_key": key}
    return client.post("/v1/billing/charges", json=body)


def check(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v1/billing/credits/check", json=USER).json()
    return answer


def use_up_and_buy(demo: Demo) -> None:
    """Check, charge until exhausted, buy, pay as the user's browser would, and be paid for again."""
    with demo.client() as client:
        assert check(client)["free_uses_remaining"] == 3
        assert [charge(client, f"message-{n}").status_code for n in (1, 2, 3, 3, 4)] == [201, 201, 201, 409, 402]
        assert check(client)["purchase_required"]
        bought = client.post("/v1/billing/purchases", json=USER).json()
        browser = stripe.StripeClient(bought["publishable_key"], base_addresses={"api": demo.facts["stripe_url"]})
        browser.v1.payment_intents.confirm(
            bought["payment_id"],
            {"payment_method": "pm_card_visa", "client_secret": bought["client_secret"]},  # type: ignore[arg-type]  # as Stripe.js does
        )
        deadline = time.monotonic() + 10
        while check(client)["credits_remaining"] != 20:  # by the webhook: no process polls
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert charge(client, "message-4").json()["balance_after"] == 1900


def type_command(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """`ciris-billing`, typed in `folder` by a person who has set no variables but `env`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def give_money_and_use_it(demo: Demo) -> None:
    """With the keys of usage and money, which name a user by the `sub` of the user's token."""
    user = {"user_id": "3F2504E0-4F89-41D3-9A0C-0305E82C3301"}
    metric = {"type": "llm_tokens", "provider": "openai", "model": "gpt-4o", "input_tokens": 1000, "output_tokens": 10}
    with demo.client("usage_key") as meter, demo.client("money_key") as giver:
        checked = meter.post("/v1/usage/check", json={**user, "required_cents": 0})
        assert checked.json()["balance_cents"] == 0, checked.text
        given = giver.post("/v1/credits/add", json={**user, "amount_cents": 500, "reason": "welcome"})
        assert given.json()["balance_cents"] == 500, given.text
        used = meter.post("/v1/usage", json={**user, "event_id": "1", "metric": metric})
        assert used.status_code == 200, used.text
        stated = meter.post("/v1/usage", json={**user, "event_id": "2", "metric": metric, "cost_cents": 100})
        assert (stated.status_code, stated.json()["cost_cents"]) == (200, 100), stated.text
    claims = {"sub": user["user_id"].lower(), "aud": "ciris-billing-demo"}
    token = httpx.post(f"{demo.facts['oidc_url']}/_control/id-token?raw=true", json=claims).text.strip()
    headers = {"Authorization": f"Bearer {token}"}
    own = httpx.get(f"{demo.facts['base_url']}/v1/accounts/me", headers=headers).json()
    assert (own["user_id"], own["balance_cents"]) == (claims["sub"], stated.json()["balance_cents"])
    buy_money(demo, headers, own["balance_cents"])


def token_of(demo: Demo, user_id: str, audience: str) -> dict[str, str]:
    claims = {"sub": user_id, "aud": audience}
    token = httpx.post(f"{demo.facts['oidc_url']}/_control/id-token?raw=true", json=claims).text.strip()
    return {"Authorization": f"Bearer {token}"}


def buy_in_a_browser(demo: Demo, shots: Path) -> None:
    """As a person who has signed in, on the pages of the local Stripe: a plan, money, and the end of the plan."""
    headers = token_of(demo, str(uuid.uuid4()), "ciris-billing-demo-web")
    token = headers["Authorization"].removeprefix("Bearer ")
    said = walk("buyer", shots, BASE_URL=demo.facts["base_url"], TOKEN=token)
    assert said.count("done: ") == 4, said


def buy_money(demo: Demo, headers: dict[str, str], cents_before: int) -> None:
    """As a signed-in user, on the page of the local Stripe."""
    base_url = demo.facts["base_url"]
    bought = httpx.post(f"{base_url}/v1/credits/purchase", json={"amount_usd": 25}, headers=headers).json()
    assert "25.00 USD" in httpx.get(bought["checkout_url"]).text
    paid = httpx.post(f"{bought['checkout_url']}/confirm", data={"payment_method": "pm_card_visa"})
    assert paid.json() == {"status": "succeeded", "complete": True}
    for _ in range(1200):
        balance = httpx.get(f"{base_url}/v1/credits/balance", headers=headers).json()["balance_cents"]
        if balance == cents_before + 2500:
            break
        time.sleep(0.05)
    assert balance == cents_before + 2500
    [payment] = httpx.get(f"{base_url}/v1/payments", headers=headers).json()["payments"]
    assert payment["status"] == "succeeded"
    assert "Receipt" in httpx.get(payment["receipt_url"]).text


def begin_sign_in(demo: Demo) -> None:
    """As a browser's user: the service asks for a retry if its provider, just started, does not answer within 3 s."""
    deadline = time.monotonic() + 30
    while (answer := httpx.get(f"{demo.facts['base_url']}/admin/oauth/login")).status_code == 503:
        assert time.monotonic() < deadline, (answer.text, (demo.state_dir.parent / "demo.out").read_text())
        time.sleep(float(answer.headers["Retry-After"]))
    assert answer.status_code == 302, answer.text


def commands_use_the_running_demo(demo: Demo) -> None:
    folder = demo.state_dir.parent
    notice = f"Using the demo that is running at {demo.facts['base_url']} (var/demo.json)\n"
    verified = type_command(folder, "ledger", "verify", "--json")
    assert verified.returncode == 0, verified.stderr
    assert (json.loads(verified.stdout)["ok"], verified.stderr.startswith(notice)) == (True, True)
    listed = json.loads(type_command(folder, "keys", "list", "--json").stdout)
    assert {key["name"] for key in listed} == {f"demo {name}" for name in KEYS}
    reconciled = type_command(folder, "payments", "reconcile", "--json")
    assert (reconciled.returncode, json.loads(reconciled.stdout)["failed"]) == (0, 0)
    elsewhere = type_command(folder, "keys", "list", MODE="development", DATABASE_URL="postgresql://a:b@127.0.0.1:1/c")
    assert (elsewhere.returncode, "demo" in elsewhere.stderr) == (3, False)


def is_not_used_any_more(state_dir: Path) -> bool:
    answer = type_command(state_dir.parent, "keys", "list")
    return (answer.returncode, answer.stderr) == (3, "DATABASE_URL: Field required\n")


@pytest.mark.timeout(400)
def test_worked_example_quick_start_and_every_end(state_dir: Path, tmp_path: Path) -> None:
    port = free_port()
    with running_demo(state_dir, port) as demo:
        assert set(demo.facts) == FACTS
        assert demo.facts["base_url"] == f"http://127.0.0.1:{port}"
        assert httpx.get(demo.facts["admin_url"]).status_code in (200, 503)  # 503: not built
        begin_sign_in(demo)
        assert httpx.get(f"{demo.facts['oidc_url']}/.well-known/openid-configuration").status_code == 200
        assert len(httpx.get(f"{demo.facts['base_url']}/.well-known/ciris-billing-keys.json").json()["keys"]) == 1
        for private in ("demo.json", "demo-keys.json", "demo-secrets.json"):
            assert (state_dir / private).stat().st_mode & 0o077 == 0
        use_up_and_buy(demo)
        give_money_and_use_it(demo)
        if not browser_lacks():
            buy_in_a_browser(demo, tmp_path)
        work_through_the_quick_start(demo.facts, tmp_path)
        commands_use_the_running_demo(demo)
        started = demo.descendants()
        assert all(any(name in command for command in started.values()) for name in PROCESSES), started
        assert demo.stop(signal.SIGTERM) == 0
        assert_all_ended(started)
        assert not is_open(port)
        printed = (state_dir.parent / "demo.out").read_text()
        data_dir = Path(printed.partition("The data stays in ")[2].partition(",")[0])
        assert (data_dir / "PG_VERSION").exists()
        assert is_not_used_any_more(state_dir)
        first = demo.facts
    with running_demo(state_dir, port) as demo:
        assert [demo.facts[key] for key in KEYS] == [first[key] for key in KEYS]
        with demo.client("credit_key") as client:
            assert check(client)["credits_remaining"] == 19
        with demo.client("test_key") as client:
            assert check(client)["free_uses_remaining"] == 3
        started = demo.descendants()
        assert demo.stop(signal.SIGKILL) == -signal.SIGKILL
        assert_all_ended(started, within_s=15)
        assert not is_open(port)
    require_browser()


@pytest.mark.parametrize("victim", ["worker", "postgres"])
def test_process_that_dies_ends_the_rest_and_is_named(state_dir: Path, victim: str) -> None:
    with running_demo(state_dir, free_port()) as demo:
        started = demo.descendants()
        command_line = f"app.cli {victim}" if victim == "worker" else "bin/postgres -D"
        (pid,) = (pid for pid, command in started.items() if command_line in command)
        os.kill(pid, signal.SIGKILL)
        assert demo.process.wait(60) == 1
        assert_all_ended(started, within_s=5)
    said = (state_dir.parent / "demo.out").read_text().lower()
    assert f"\n{victim}" in said


STUBBORN = """
import os, signal, sys, time
if os.fork():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    time.sleep(60)  # ends on SIGTERM
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""
STOPPING = """
import sys, time
from pathlib import Path
from app.demo.supervisor import Guard, Supervisor
guard = Guard()
supervisor = Supervisor(Path(sys.argv[1]), guard)
supervisor.start_once("build-ui", [sys.executable, "-c", sys.argv[2], sys.argv[3]])
while not Path(sys.argv[3]).exists():
    time.sleep(0.01)
supervisor.stop()
guard.dismiss()
"""


def test_what_a_child_has_started_ends_before_the_demo_says_so(tmp_path: Path) -> None:
    """Such as `npm ci`, which `scripts/build-ui` runs and which takes its time to end."""
    started = tmp_path / "pid"
    subprocess.run(
        [sys.executable, "-c", STOPPING, tmp_path / "log", STUBBORN, started], cwd=ROOT, timeout=60, check=True
    )
    assert not is_alive(int(started.read_text()))


def test_port_in_use_is_said_clearly(state_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = subprocess.run(
            [sys.executable, "-m", "app.cli", "demo", "--no-ui", "--no-traffic", "--state-dir", str(state_dir)],
            cwd=ROOT,
            env=demo_environment(port),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (answer.returncode, answer.stderr) == (
        1,
        f"\nPort {port} is in use. Choose another one with PORT=, or leave it out.\n",
    )
    assert not (state_dir / "postgres").exists()
