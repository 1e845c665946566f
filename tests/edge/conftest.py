"""The API behind the real Caddy, on addresses of this machine."""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from tests.conftest import settings_for
from tests.databases import ROOT, Urls
from tests.edge.caddy import Edge, running_caddy
from tests.servers import serving

CADDY_ADDRESS, BALANCER_ADDRESS = "127.0.0.1", "127.0.0.5"


@pytest.fixture(scope="module")
def api(database: Urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API's own address. It trusts the proxies alone: clients of the tests call from other addresses."""
    pages = tmp_path_factory.mktemp("pages")
    (pages / "index.html").write_text("<!doctype html><title>Back office</title>" + 2000 * " ")
    settings = settings_for(database, trusted_proxies=[CADDY_ADDRESS, BALANCER_ADDRESS], admin_ui_dir=pages)
    with serving(create_app(settings)) as url:
        yield url


@pytest.fixture(scope="module")  # no longer: Caddy asks the API for its health, which other modules' tests would see
def edge(api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_caddy([api], tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Caddy without a replica."""
    with socket.socket() as closed:  # bound, so that no other process takes the port, and not listening
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with running_caddy([address], tmp_path_factory.mktemp("alone")) as edge:
            yield edge


@pytest.fixture(scope="session")
def client_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CA that the commands of docs/deployment-edge.md make, beside what else they make and print."""
    page = (ROOT / "docs" / "deployment-edge.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- executed by .*? -->\n```sh\n(.*?)```", page, re.DOTALL)
    assert found is not None
    folder = tmp_path_factory.mktemp("certificates")
    done = subprocess.run(
        ["bash", "-eu", "-c", found[1]], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder / "client-ca.crt"
