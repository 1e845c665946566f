"""docs/security.md is true: its tests exist. Also the properties that no other test covers."""

import hmac
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.auth.api_keys.keys import generate_key
from tests.conftest import Keys, running_app, settings_for
from tests.databases import ROOT, Urls

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_threat_names_tests_that_exist() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    rows = re.findall(r"^\| (?!threat |---)(.+?) \|.*\| (.*?) \|$", PAGE, re.MULTILINE)
    assert len(rows) > 30
    for threat, tests in rows:
        named = set(re.findall(r"`(test_\w+)`", tests))
        assert named, threat
        assert named <= existing, (threat, named - existing)


async def test_secrets_are_compared_in_constant_time(
    database: Urls, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    async with (
        running_app(settings_for(database, metrics_token="m" * 40)) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing") as client,
    ):
        user = {"oauth_provider": "oauth:google", "external_id": "compared@example.com"}
        assert (await client.post("/v1/billing/check", json=user, headers={"X-API-Key": keys.agent})).status_code == 200
        monkeypatch.setattr(hmac, "compare_digest", watched)
        wrong = keys.agent[:-1] + ("a" if keys.agent[-1] != "a" else "b")
        assert (await client.post("/v1/billing/check", json=user, headers={"X-API-Key": wrong})).status_code == 401
        assert {len(part) for pair in compared for part in pair} == {32}  # digests: no length to learn either
        assert (await client.get("/metrics", headers={"Authorization": "Bearer " + "m" * 39})).status_code == 401
        assert compared[-1][1] == b"Bearer " + b"m" * 40


def private_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def test_a_key_that_was_put_in_by_mistake_is_found(tmp_path: Path) -> None:
    def look() -> "subprocess.CompletedProcess[str]":
        command = [str(ROOT / "scripts" / "secrets"), "--no-index"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    harmless = tmp_path / "harmless.py"
    harmless.write_text("key = 'cbk_live_<id>_<secret>'  # sk_test_..., whsec_...\n")
    assert look().returncode == 0
    jwt = ".".join(("eyJ" + "a" * 30, "eyJ" + "b" * 60, "c" * 43))
    for text in (
        generate_key("live").secret_text,
        generate_key("test").secret_text,
        "sk_" + "live_" + "51H" + "a1B2" * 20,
        "whsec" + "_" + "a1B2" * 8,
        "AKIA" + "A1B2C3D4E5F6G7H8",
        jwt,
        private_key(),
    ):
        (tmp_path / "settings.py").write_text(f"# a line\nKEY = '{text}'\n")
        found = look()
        assert found.returncode == 1, text
        assert found.stderr.endswith("settings.py:2\n")
        assert text[12:] not in found.stderr  # a log of the build is read by many
        (tmp_path / "settings.py").write_text(f"KEY = '{text.splitlines()[0]}'  # not a secret: made for a test\n")
        assert look().returncode == 0
