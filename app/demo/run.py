"""`make run`: the whole service on this machine, supervised. Ctrl-C or SIGTERM ends every process that it started.

PostgreSQL, then the local Stripe and the local sign-in provider, then the API and the worker. Each is a separate
process in a separate session: Ctrl-C in the terminal reaches only this supervisor, which stops them in reverse order,
so that the API can finish its requests while its dependencies still run. A killed supervisor can stop nothing: a guard
process detects that and ends the others (guard.py).
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import typer

from app.cli.output import progress
from app.db.schema_check import newest_revision
from app.db.version_mark import oldest_of
from app.demo import data, plans
from app.demo.postgres import Cluster, LaunchError
from app.demo.stand_ins import ADMIN_CLIENT_ID, ADMIN_EMAIL, OIDC_CLIENT_ID, PACKS, WEB_CLIENT_ID
from app.demo.supervisor import ROOT, DemoError, Guard, Supervisor
from app.signing_keys import new_signing_key

OWNER_ROLE, SERVICE_ROLE, DATABASE = "billing_owner", "billing_service", "ciris_billing"
FIRST_PORT, STRIPE_OFFSET, OIDC_OFFSET = 8000, 10, 20


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _port(requested: int | None, first: int, taken: Collection[int] = ()) -> int:
    """Return the requested port, or the next free one from `first` that is not in `taken`. Raise DemoError."""
    if requested is not None:
        if not _is_free(requested):
            raise DemoError(f"Port {requested} is in use. Choose another one with PORT=, or leave it out.")
        return requested
    for port in range(first, min(first + 200, 65_536)):
        if port not in taken and _is_free(port):
            return port
    raise DemoError(f"No free port from {first} up.")


@contextmanager
def _database(state_dir: Path, supervisor: Supervisor) -> Iterator[tuple[dict[str, str], str]]:
    """Yield the settings of the database, and the location of its data.

    Either DATABASE_URL, or an embedded PostgreSQL with one role that owns the schema and one that serves.
    """
    if given := os.environ.get("DATABASE_URL"):
        urls = {"DATABASE_URL": given, "DATABASE_OWNER_URL": os.environ.get("DATABASE_OWNER_URL", given)}
        yield urls, "the PostgreSQL of DATABASE_URL"
        return
    with Cluster(state_dir) as cluster:
        supervisor.adopt(cluster)
        asyncio.run(_create_database(cluster))
        urls = {
            "DATABASE_URL": cluster.url(SERVICE_ROLE, DATABASE),
            "DATABASE_OWNER_URL": cluster.url(OWNER_ROLE, DATABASE),
        }
        yield urls, str(cluster.data_dir)


async def _create_database(cluster: Cluster) -> None:
    connection = await asyncpg.connect(cluster.owner_url())
    try:
        for role in (OWNER_ROLE, SERVICE_ROLE):
            exists = await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
            # The password is hexadecimal; statements on roles take no parameters.
            password = cluster.role_password(role)
            await connection.execute(f"{'ALTER' if exists else 'CREATE'} ROLE {role} LOGIN PASSWORD '{password}'")
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}")
    finally:
        await connection.close()


def _secrets(state_dir: Path) -> dict[str, str]:
    """Return the secrets of the local Stripe, of admin sessions, encryption and signatures, created once and stored."""
    path = state_dir / "demo-secrets.json"
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = ("live_secret_key", "live_webhook_secret", "test_secret_key", "test_webhook_secret", "session_secret")
    made = {name: secrets.token_hex(24) for name in names}
    made["encryption_key"] = b64encode(secrets.token_bytes(32)).decode()
    made["signing_keys"] = json.dumps([new_signing_key()])
    made |= kept
    if made != kept:
        data.write_private(path, json.dumps(made))
    return made


def _environment(base_url: str, stripe_url: str, oidc_url: str, made: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the API and the worker."""

    def stripe_keys(environment: str) -> str:
        return json.dumps(
            {
                "secret_key": f"sk_test_{made[f'{environment}_secret_key']}",
                "publishable_key": f"pk_test_{environment}",
                "webhook_secret": f"whsec_{made[f'{environment}_webhook_secret']}",
            }
        )

    issuer = {
        "issuer": oidc_url,
        "jwks_url": f"{oidc_url}/jwks",
        "audiences": [OIDC_CLIENT_ID, WEB_CLIENT_ID],
        "interactive_audiences": [WEB_CLIENT_ID],
        "provider": data.PROVIDER,
    }
    return {
        "MODE": "demo",
        "HOST": "127.0.0.1",
        "DRAIN_S": "0",
        "PORT": str(urlsplit(base_url).port),
        "STRIPE_LIVE": stripe_keys("live"),
        "STRIPE_TEST": stripe_keys("test"),
        "STRIPE_API_BASE": stripe_url,
        "PACKS": os.environ.get("PACKS", json.dumps(PACKS)),
        "ISSUERS": json.dumps([issuer]),
        "PUBLIC_URL": base_url,
        "FRONTEND_URL": os.environ.get("FRONTEND_URL", stripe_url),  # the local Stripe has the pages of a web app
        "ADMIN_OAUTH_ISSUER": oidc_url,
        "ADMIN_OAUTH_CLIENT_ID": ADMIN_CLIENT_ID,
        "ADMIN_SESSION_SECRET": made["session_secret"],
        "ENCRYPTION_KEYS": json.dumps({"demo": made["encryption_key"]}),
        "SIGNING_KEYS": made["signing_keys"],
    }


def run_demo(state_dir: Path, requested_port: int | None, *, build_ui: bool, traffic: bool) -> int:
    """Run until a signal asks to stop, and return the exit status."""
    state_dir.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as stack:
            data_in = _run_everything(stack, state_dir, requested_port, build_ui=build_ui, traffic=traffic)
            typer.echo("\nStopping …")
    except (DemoError, LaunchError) as error:
        typer.echo(f"\n{error}", err=True)
        return 1
    typer.echo(f"All processes have ended. The data stays in {data_in}, keys and logs in {state_dir}")
    return 0


def _run_everything(
    stack: ExitStack, state_dir: Path, requested_port: int | None, *, build_ui: bool, traffic: bool
) -> str:
    """Start everything and wait until a signal asks to stop. Return the location of the data.

    Closing `stack` ends the started processes in order.
    """
    port = _port(requested_port, FIRST_PORT)
    stripe_port = _port(None, port + STRIPE_OFFSET, {port})
    oidc_port = _port(None, port + OIDC_OFFSET, {port, stripe_port})
    base_url, stripe_url, oidc_url = (f"http://127.0.0.1:{number}" for number in (port, stripe_port, oidc_port))
    (state_dir / "demo.json").unlink(missing_ok=True)  # the last run's facts no longer apply
    guard = Guard()
    stack.callback(guard.dismiss)
    supervisor = Supervisor(state_dir / "log", guard)
    env = _environment(base_url, stripe_url, oidc_url, _secrets(state_dir))
    database, data_in = stack.enter_context(_database(state_dir, supervisor))
    env |= database
    stack.callback(supervisor.stop)  # before PostgreSQL, which was entered first
    local = {"DEMO_STATE_DIR": str(state_dir), "DEMO_BASE_URL": base_url, "DEMO_OIDC_URL": oidc_url}
    for name, number in (("stripe", stripe_port), ("oidc", oidc_port)):
        command = ["uvicorn", f"app.demo.stand_ins:create_{name}", "--factory", "--port", str(number)]
        supervisor.start(name, command, {**env, **local})
    if not asyncio.run(_is_migrated(env)):
        _migrate(env)
    keys, is_new = asyncio.run(data.prepare(env, state_dir))
    traffic = traffic and is_new
    supervisor.start("api", ["app.cli", "serve"], env)
    if not traffic:
        supervisor.start("worker", ["app.cli", "worker"], env)
    if build_ui:
        ready = f" The back office is built: {base_url}/admin-ui/"
        supervisor.start_once("build-ui", [str(ROOT / "scripts" / "build-ui")], done=ready)
    for name, url in (("stripe", stripe_url), ("oidc", f"{oidc_url}/jwks"), ("api", f"{base_url}/health")):
        supervisor.wait_for(name, url)
    if not supervisor.stopping:
        asyncio.run(plans.sell_plans(env))
        _announce(state_dir, base_url, stripe_url, oidc_url, keys, env)
        if traffic:
            _add_sample_traffic(supervisor, env)
    while not supervisor.stopping:
        supervisor.check()
        time.sleep(0.2)
    return data_in


def _add_sample_traffic(supervisor: Supervisor, env: Mapping[str, str]) -> None:
    """Add a month of sample traffic, then start the worker, which assumes that no entry is added to the past.

    The service answers in the meantime. If interrupted, the next start continues, because no worker has run yet.
    """
    typer.echo(" Adding a month of sample traffic for the back office …")
    supervisor.start_once("traffic", [sys.executable, "-m", "app.demo.traffic"], env)
    with progress("Traffic") as advance:

        def show_progress(line: str) -> None:
            done, _, total = line.partition("/")
            if done.isdecimal() and total.isdecimal():
                advance(int(done), int(total))

        succeeded = supervisor.finish("traffic", show_progress)
    if succeeded:
        typer.echo(" Sample traffic complete.")
    if not supervisor.stopping:
        supervisor.start("worker", ["app.cli", "worker"], env)


async def _is_migrated(env: Mapping[str, str]) -> bool:
    """Return whether there is nothing to migrate or to finish. A query takes a tenth of alembic's time."""
    try:
        connection = await asyncpg.connect(env["DATABASE_OWNER_URL"], timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise DemoError(f"The database does not answer: {error}") from None
    try:
        found = await connection.fetchval("SELECT version_num FROM alembic_version")
        comment = await connection.fetchval("SELECT obj_description('alembic_version'::regclass, 'pg_class')")
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await connection.close()
    return bool(found == oldest_of(comment) == newest_revision())


def _migrate(env: Mapping[str, str]) -> None:
    """Migrate, and end the upgrade: no other version runs beside the demo's."""
    command = [sys.executable, "-m", "app.cli", "migrate", "--finish"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    if done.returncode:
        raise DemoError(f"The database could not be migrated:\n{done.stderr[-3000:]}")


def _announce(
    state_dir: Path, base_url: str, stripe_url: str, oidc_url: str, keys: data.Keys, env: Mapping[str, str]
) -> None:
    """Print all addresses, and write them to demo.json.

    The file also contains the process id and the settings, with which commands use the running demo.
    """
    facts: dict[str, object] = {
        "base_url": base_url,
        **asdict(keys),
        "admin_url": f"{base_url}/admin-ui/",
        "stripe_url": stripe_url,
        "oidc_url": oidc_url,
        "stripe_webhook_secret": json.loads(env["STRIPE_LIVE"])["webhook_secret"],
        "pid": os.getpid(),
        "settings": dict(env),
    }
    data.write_private(state_dir / "demo.json", json.dumps(facts, indent=2))
    width = shutil.get_terminal_size().columns
    is_built = (ROOT / "admin-ui" / "dist" / "index.html").is_file()
    pages = f"sign in as {ADMIN_EMAIL}" + ("" if is_built else " (the pages are being built)")
    body = '{"oauth_provider": "oauth:google", "external_id": "you@example.com"}'
    typer.echo(
        f"""
{"─" * min(width, 100)}
 CIRIS Billing   {base_url}          status: {base_url}/v1/status
 back office     {base_url}/admin-ui/         {pages}
 local Stripe    {stripe_url}        sign-in: {oidc_url}
 agent's key     {keys.api_key}
{"─" * min(width, 100)}
 Does this user have credit?

curl -s {base_url}/v1/billing/credits/check -H 'X-API-Key: {keys.api_key}' \\
  -H 'Content-Type: application/json' -d '{body}'

 An end user's token (audience {OIDC_CLIENT_ID}), for Authorization: Bearer …

curl -s '{oidc_url}/_control/id-token?raw=true' -H 'Content-Type: application/json' \\
  -d '{{"sub": "you@example.com", "aud": "{OIDC_CLIENT_ID}"}}'

 The same with "aud": "{WEB_CLIENT_ID}" is a token that only a person has: it may save cards and approve requests.

 The README walks through check, charge, purchase and payment. All of this is in {state_dir / "demo.json"},
 logs are in {state_dir / "log"}. Ctrl-C stops everything.
"""
    )
    sys.stdout.flush()
