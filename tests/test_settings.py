"""Settings: from the environment and from files; production refuses what only a demo may have."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.settings import Mode, Settings

SECRET = "s3cr3t-" + "x" * 40
STRIPE = {"secret_key": f"sk_live_{SECRET}", "publishable_key": "pk_live_1", "webhook_secret": f"whsec_{SECRET}"}
PRODUCTION: dict[str, Any] = {
    "database_url": "postgresql://billing@db/billing",
    "metrics_token": SECRET,
    "stripe_live": STRIPE,
}
ISSUER = {
    "issuer": "https://id.example.com",
    "jwks_url": "https://id.example.com/jwks",
    "audiences": ["a"],
    "provider": "oauth:example",
}


def test_production_is_the_default_and_starts_with_good_secrets() -> None:
    settings = Settings.model_validate(PRODUCTION)
    assert settings.mode is Mode.PRODUCTION
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metrics_token": None}, "METRICS_TOKEN is required"),
        ({"metrics_token": "short"}, "METRICS_TOKEN is too short"),
        ({"metrics_token": "changeme" * 8}, "METRICS_TOKEN is too short .* or a default"),
        ({"stripe_live": {**STRIPE, "secret_key": "sk_live_1"}}, "STRIPE_LIVE.secret_key"),
        ({"stripe_live": {**STRIPE, "webhook_secret": "whsec_demo" + SECRET}}, "STRIPE_LIVE.webhook_secret"),
        ({"stripe_test": {**STRIPE, "webhook_secret": "whsec_1"}}, "STRIPE_TEST.webhook_secret"),
        ({"stripe_test": STRIPE}, "one webhook_secret"),
        ({"stripe_live": {**STRIPE, "secret_key": f"sk_test_{SECRET}"}}, "STRIPE_LIVE.secret_key is none"),
        ({"stripe_test": {**STRIPE, "webhook_secret": f"whsec_2{SECRET}"}}, "STRIPE_TEST.secret_key is none"),
        ({"stripe_api_base": "http://127.0.0.1:8010"}, "STRIPE_API_BASE"),
        ({"issuers": [{**ISSUER, "jwks_url": "http://id.example.com/jwks"}]}, "without TLS"),
        ({"issuers": [{**ISSUER, "provider": "google"}]}, "issuers"),
        ({"packs": {}}, "packs"),
        ({"free_uses": -1}, "free_uses"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies"),
    ],
)
def test_production_refuses_and_says_what(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named) as refused:
        Settings.model_validate({**PRODUCTION, **change})
    assert SECRET not in str(refused.value)


def test_what_production_refuses_a_demo_may_have() -> None:
    demo = {"mode": "demo", "metrics_token": None, "stripe_live": None, "stripe_api_base": "http://127.0.0.1:8010"}
    assert Settings.model_validate({**PRODUCTION, **demo}).metrics_token is None


def test_a_setting_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The convention of Docker secrets; JSON in a file counts as in a variable, and the variable wins."""
    (tmp_path / "url").write_text("postgresql://from-a-file/billing\n", encoding="utf-8")
    (tmp_path / "stripe").write_text(json.dumps(STRIPE), encoding="utf-8")
    monkeypatch.setenv("MODE", "development")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("STRIPE_LIVE_FILE", str(tmp_path / "stripe"))
    settings = Settings()
    assert settings.database_url.get_secret_value() == "postgresql://from-a-file/billing"
    assert settings.stripe_live is not None
    assert settings.stripe_live.publishable_key == "pk_live_1"
    (tmp_path / "stripe").write_text("\n", encoding="utf-8")
    assert Settings().stripe_live is None
    monkeypatch.setenv("DATABASE_URL", "postgresql://from-the-variable/billing")
    assert Settings().database_url.get_secret_value() == "postgresql://from-the-variable/billing"
