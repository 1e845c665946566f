"""Servers of our own as real processes, and the local Stripe as a real server."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import uvicorn
from fastapi import FastAPI

from app.demo import stripe
from app.http.protocol import LoadSheddingProtocol
from tests.databases import ROOT, Urls
from tests.processes import Process
from tests.support.signing import SIGNING_KEY

START_TIMEOUT_S = 90


@dataclass(frozen=True)
class Server:
    """A running server process."""

    url: str
    process: "Process | subprocess.Popen[bytes]"
    log: IO[bytes]

    def kill(self) -> None:
        """SIGKILL: no time to finish anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def printed(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()


def free_port() -> int:
    """A free port, below the range of ports for outgoing connections."""
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(urls: Urls) -> dict[str, str]:
    return {
        "MODE": "development",
        "DATABASE_URL": urls.service,
        "DATABASE_OWNER_URL": urls.owner,
        "DATABASE_START_WAIT_S": "0",
        "RATE_LIMIT_PER_KEY": "100000000",
        "RATE_LIMIT_PER_ADDRESS": "100000000",
        "RATE_LIMIT_PER_ACCOUNT": "100000000",
        "LOG_LEVEL": "WARNING",
        "DRAIN_S": "0",
        "SIGNING_KEYS": json.dumps([SIGNING_KEY]),
    }


@contextlib.contextmanager
def running_server(
    urls: Urls,
    app: str = "",
    health: str = "/health",
    port: int = 0,
    env: Mapping[str, str] | None = None,
    workers: int = 1,
    root: Path = ROOT,
) -> Iterator[Server]:
    """Run `ciris-billing serve` (or another `app` under uvicorn) on a free port; stop it by pid afterwards.

    Of another version, when `root` is its folder.
    """
    port = port or free_port()
    with tempfile.NamedTemporaryFile() as log:
        everything = {**os.environ, **environment(urls), **(env or {})}
        server = Server(f"http://127.0.0.1:{port}", _start(app, port, everything, log, workers, root), log)
        try:
            _wait(server, health)
            yield server
        finally:
            server.stop()


def launch(arguments: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> "Process | subprocess.Popen[bytes]":
    """`ciris-billing` with these arguments, printing to `log`: forked, unless a library is to be loaded before others,
    which happens when a program begins."""
    if "LD_PRELOAD" not in env:
        return Process(arguments, env, log, log)
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _start(
    app: str, port: int, env: Mapping[str, str], log: IO[bytes], workers: int, root: Path
) -> "Process | subprocess.Popen[bytes]":
    if not app and workers == 1 and root == ROOT:
        return launch(("serve", "--port", str(port)), env, log)
    python = sys.executable if root == ROOT else str(root / ".venv/bin/python")
    command = [python, "-m", "app.cli", "serve", "--port", str(port), "--workers", str(workers)]
    if app:
        options = ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", app, *options]
    return subprocess.Popen(command, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _wait(server: Server, health: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.printed()
        with contextlib.suppress(OSError), urllib.request.urlopen(server.url + health, timeout=2):
            return
        time.sleep(0.05)
    raise AssertionError(f"no answer from {server.url}: {server.printed()}")


@contextlib.contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of an application on a real server, in a thread of this process."""
    port = port or free_port()
    # As in `serve`: the application decides which client address counts.
    config = uvicorn.Config(
        app, port=port, http=LoadSheddingProtocol, proxy_headers=False, log_level="warning", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@dataclass(frozen=True)
class LocalStripe:
    """The local Stripe's address, and the keys of its account."""

    url: str
    secret_key: str
    publishable_key: str
    webhook_secret: str

    @property
    def keys(self) -> dict[str, str]:
        return {
            "secret_key": self.secret_key,
            "publishable_key": self.publishable_key,
            "webhook_secret": self.webhook_secret,
        }

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a service that uses this Stripe for its live environment."""
        return {"STRIPE_LIVE": json.dumps(self.keys), "STRIPE_API_BASE": self.url}


@contextlib.contextmanager
def running_stripe(
    webhook_url: str | None = None, retry_schedule_s: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
) -> Iterator[LocalStripe]:
    config = stripe.AccountConfig("pk_test_tests", "whsec_of_the_tests", webhook_url)
    # Tests settle refunds themselves.
    app = stripe.create_app(
        accounts={"sk_test_tests": config}, retry_schedule_s=retry_schedule_s, refunds_settle_after_s=3600
    )
    with serving(app) as url:
        yield LocalStripe(url, "sk_test_tests", config.publishable_key, config.webhook_secret)
