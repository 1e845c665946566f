"""`make image`, last part: the contents of the built image, and requests served from it, read-only and without rights.

    python -m tests.image ROOT CONFIG POOLER

ROOT: the image's unpacked root file system. CONFIG: the output of `buildah inspect`. POOLER: the root of the other
image, whose PgBouncer the tests behind a pooler are run with. There is no container engine here, so
the process gets what matters of one: that root, mounted read-only, and the image's user, environment and command.
"""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.demo.postgres import ephemeral_cluster
from tests.databases import ADMIN_URL, create_database, prepare
from tests.observability.test_traces import collecting, spans_of
from tests.servers import free_port

TOKEN = "metrics-token-of-the-proof-0123456789"
BUILD_TOOLS = ("cc", "gcc", "g++", "make", "ld", "cargo", "rustc", "node", "npm", "pip", "pip3", "uv", "git", "curl")
WITHIN = """
mount --bind {root} {root} && mount -o remount,bind,ro {root} &&
mount --bind /proc {root}/proc && mount --bind /dev {root}/dev && cd {root} &&
exec chroot --userspec={user} {root} env -i {env} sh -c {command}
"""


class Image:
    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root, self.config = root, config
        self.env = dict(entry.split("=", 1) for entry in config["Env"])

    def start(self, command: list[str], env: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
        """Start `command` in the image, in a separate mount namespace."""
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in {**self.env, **env}.items())
        script = WITHIN.format(
            root=self.root, user=self.config["User"], env=words, command=shlex.quote(f"exec {shlex.join(command)}")
        )
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", script], text=True, **options)

    def run(self, command: list[str], env: Mapping[str, str]) -> str:
        process = self.start(command, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{command}: {out}{err}"
        return out

    def fails(self, command: list[str]) -> bool:
        process = self.start(command, {}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process.wait(60) != 0


def look(image: Image) -> None:
    """Check the contents of the image and its description of itself."""
    assert image.config["User"] == "10001:10001"
    labels = image.config["Labels"]
    for name in ("title", "source", "version", "revision", "created", "base.name"):
        assert labels[f"org.opencontainers.image.{name}"], name
    for tool in BUILD_TOOLS:
        assert image.fails(["sh", "-c", f"command -v {tool}"]), f"{tool} is in the image"
    assert image.fails(["python3", "-m", "pip", "--version"])
    assert image.fails(["touch", "/opt/billing/here"])
    assert image.fails(["touch", "/tmp/here"])
    sbom = json.loads((image.root / labels["ai.ciris.billing.sbom"].lstrip("/")).read_text(encoding="utf-8"))
    listed = {
        f"{part['name']}=={part['version']}" for part in sbom["components"] if part["purl"].startswith("pkg:pypi")
    }
    code = "import importlib.metadata as m; print(*(f'{d.name.lower()}=={d.version}' for d in m.distributions()))"
    installed = set(image.run(["python3", "-c", code], {}).replace("_", "-").split())
    unknown = {each for each in installed if each not in listed and not each.startswith("ciris-billing==")}
    assert not unknown, f"in the image, not in its bill of materials: {unknown}"
    print(f"{len(installed)} Python packages, all in the SBOM of {len(sbom['components'])} components")


def ask(url: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read()


def serve(image: Image) -> None:
    """Migrate, make a key, serve, charge, be healthy, end on SIGTERM: all with the image's own programs.

    Traces and reports of errors are switched on, which takes the packages of both extras.
    """
    with ephemeral_cluster() as cluster, collecting() as (collector, sent):
        prepare(cluster)
        urls = asyncio.run(create_database("from_the_image", template=None))
        port = free_port()
        env = {
            "DATABASE_URL": urls.service,
            "DATABASE_OWNER_URL": urls.owner,
            "METRICS_TOKEN": TOKEN,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "SENTRY_DSN": f"{collector.replace('://', '://key@')}/1",
        }
        entry = image.config["Entrypoint"]
        image.run([*entry, "migrate"], env)
        permissions = ["--permission", "billing:read", "--permission", "billing:write"]
        made = json.loads(image.run([*entry, "keys", "create", "--name", "proof", *permissions, "--json"], env))
        process = image.start([*entry, *image.config["Cmd"]], env)
        try:
            healthy = image.config["Healthcheck"]["Test"][1:]
            deadline = time.monotonic() + 60
            while True:
                probe = image.start(healthy, env, stderr=subprocess.DEVNULL)
                if probe.wait(30) == 0:
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
            base = f"http://127.0.0.1:{port}"
            user = {"oauth_provider": "oauth:google", "external_id": "first@example.com"}
            charge = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": "first"}
            status, said = ask(
                f"{base}/v1/billing/charges",
                charge,
                **{"X-API-Key": made["api_key"], "Content-Type": "application/json"},
            )
            assert status == 201
            print(f"charged: {said.decode()}")
            status, page = ask(f"{base}/admin-ui/")
            assert status == 200
            assert b"<html" in page.lower()
            assert ask(f"{base}/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
        traced = {span.name for spans in spans_of(sent).values() for span in spans}
        assert "POST /v1/billing/charges" in traced, traced
        print(f"{len(traced)} kinds of spans reached a collector")
        print("The health check, a charge, pages and metrics answered; SIGTERM ended it in order.")


def pool(root: Path) -> None:
    """The tests behind a pooler, with the PgBouncer of that image: with prepared statements, too."""
    with tempfile.TemporaryDirectory() as folder:
        loader = Path(folder) / "pgbouncer"
        libraries = root / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"
        [linker] = libraries.glob("ld-linux-*.so.*")
        loader.write_text(f'#!/bin/sh\nexec {linker} --library-path {libraries} {root}/usr/sbin/pgbouncer "$@"\n')
        loader.chmod(0o755)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_pooler.py"]
        env = {name: value for name, value in os.environ.items() if name != ADMIN_URL}
        subprocess.run(command, env={**env, "PGBOUNCER": str(loader)}, check=True)


if __name__ == "__main__":
    assert os.getuid() == 0, "mounting needs root"
    inspected = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    built = Image(Path(sys.argv[1]), inspected["Docker"]["config"])
    look(built)
    serve(built)
    pool(Path(sys.argv[3]))
