"""The Caddyfile as Caddy itself judges it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.edge.caddy import CADDY, CADDYFILE


def caddy(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [CADDY, *arguments], env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"SITE_ADDRESS": "billing.example.com", "EDGE_TRUSTED_PROXIES": "10.0.0.0/8 fd00::/8"},
        {"SITE_TLS": "internal", "CLIENT_CERTIFICATES": "required", "API_UPSTREAMS": "a:1 b:2 c:3"},
    ],
)
def test_it_is_valid(env: dict[str, str], tmp_path: Path, client_ca: Path) -> None:
    done = caddy(
        "validate", "--config", str(CADDYFILE), **env, CLIENT_CA_FILE=str(client_ca), XDG_DATA_HOME=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr


def test_a_misspelt_choice_of_client_certificates_is_refused() -> None:
    """Not taken for `off`."""
    done = caddy("adapt", "--config", str(CADDYFILE), CLIENT_CERTIFICATES="require")
    assert done.returncode == 1
    assert "client_tls_require" in done.stderr


def test_it_is_formatted() -> None:
    done = caddy("fmt", "--diff", str(CADDYFILE))
    assert done.returncode == 0, done.stdout


def test_every_variable_is_explained_at_the_top() -> None:
    text = CADDYFILE.read_text(encoding="utf-8")
    used = {part.partition("}")[0].partition(":")[0] for part in text.split("{$")[1:]}
    explained = {
        word for line in text.splitlines() if line.startswith("#   ") for word in line[1:24].split() if word.isupper()
    }
    assert explained == used
