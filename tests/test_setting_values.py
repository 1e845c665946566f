"""Characters that editors, `echo` and secret stores append are not part of a setting; every setting is tested here."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app.settings import Settings
from tests.support.signing import SIGNING_KEY

SECRET = "s3cr3t-" + "x" * 40
STRIPE = {"secret_key": f"sk_live_{SECRET}", "publishable_key": "pk_live_1", "webhook_secret": f"whsec_{SECRET}"}
ISSUER = {
    "issuer": "https://id.example.com",
    "jwks_url": "https://id.example.com/jwks",
    "audiences": ["an-audience"],
    "provider": "oauth:example",
}
KEY = "a" * 43 + "="
SAMPLES: dict[str, str | list[Any] | dict[str, Any]] = {
    "mode": "development",
    "database_url": "postgresql://u@h/d",
    "database_owner_url": "postgresql://u@h/d",
    "database_direct_url": "postgresql://u@h/d",
    "database_statement_cache_size": "50",
    "database_start_wait_s": "5.5",
    "database_read_url": "postgresql://u@h/d",
    "database_read_max_lag_s": "16",
    "database_pool_size": "20",
    "max_open_purchases": "17",
    "zero_pro_plan": "gold",
    "subscription_grace_days": "15",
    "closed_account_payments": "review",
    "return_url_schemes": ["myapp"],
    "frontend_url": "https://app.example.com",
    "return_url_origins": ["https://other.example.com"],
    "cors_origins": ["https://app.example.com"],
    "folded_providers": ["oauth:google"],
    "database_timeout_s": "2.5",
    "request_timeout_s": "3.5",
    "request_head_timeout_s": "19",
    "max_body_bytes": "2048",
    "host": "0.0.0.0",
    "port": "8001",
    "drain_s": "1.5",
    "trusted_proxies": ["10.0.0.0/8"],
    "log_level": "WARNING",
    "log_json": "false",
    "metrics_token": SECRET,
    "worker_metrics_port": "9000",
    "otel_exporter_otlp_endpoint": "http://otel-collector:4318",
    "sentry_dsn": "https://key@sentry.example.com/1",
    "free_uses": "15",
    "daily_free_uses": "11",
    "default_plan_name": "Pro plan",
    "default_currency": "USD",
    "packs": {"standard": {"price_minor": 500, "credits": 20, "currency": "USD"}},
    "products": {"web_search": {"initial_free": 1, "daily_free": 1, "price_credits": 1}},
    "stripe_live": STRIPE,
    "stripe_test": STRIPE,
    "stripe_api_base": "http://127.0.0.1:8010",
    "stripe_timeout_s": "2.5",
    "encryption_keys": {"k1": KEY},
    "signing_keys": [SIGNING_KEY],
    "google_client_ids": ["a-client"],
    "issuers": [ISSUER],
    "public_url": "https://billing.example.com",
    "admin_oauth_issuer": "https://id.example.com",
    "admin_oauth_client_id": "a-client",
    "admin_oauth_client_secret": "a secret of theirs",
    "admin_email_domain": "example.com",
    "admin_session_secret": SECRET,
    "identity_digest_key": SECRET,
    "admin_ui_dir": "pages/dist",
    "admin_support_credit_limit": "17",
    "admin_support_daily_credit_limit": "18",
    "admin_support_money_limit": "11",
    "admin_support_daily_money_limit": "102",
    "admin_support_daily_suspension_limit": "19",
    "usage_max_age_days": "36",
    "usage_max_ahead_s": "301",
    "usage_debt_plans": ["pro"],
    "usage_debt_limit": "101",
    "cost_record_expires_s": "3601",
    "cost_record_on_expiry": "charge_nothing",
    "time_zone": "Europe/Kyiv",
    "rate_limit_per_key": "10",
    "rate_limit_per_address": "11",
    "rate_limit_per_account": "12",
    "event_streams_per_process": "12",
    "event_streams_per_key": "12",
    "event_streams_per_user": "12",
    "event_stream_lifetime_s": "12",
    "redis_url": "redis://h:6379/0",
    "key_rotation_grace_s": "60",
}
"""A value for each setting, other than its default where that matters."""
BLANKS = ("{}\n", "{}\r\n", "{} ", "{}\t", " {}", "\n\t {} \r\n\n", "\ufeff{}", "{}\u00a0", "{}\u2028")


def mapped(value: Any, change: Any) -> Any:
    """Each text in a JSON value changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [mapped(each, change) for each in value]
        case dict():
            return {key: mapped(each, change) for key, each in value.items()}
        case _:
            return value


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the settings only those that every process needs."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.setenv("MODE", "development")
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/other")


def test_every_setting_has_a_sample() -> None:
    assert SAMPLES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_blanks_and_line_breaks_at_the_ends_are_no_part_of_a_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    value, variable, file = SAMPLES[name], name.upper(), tmp_path / "secret"
    monkeypatch.setenv(variable, text_of(value))
    expected = getattr(Settings(), name)
    for blanks in BLANKS:
        monkeypatch.setenv(variable, text_of(mapped(value, blanks.format)))
        assert getattr(Settings(), name) == expected, repr(blanks)
        if not isinstance(value, str) and "\ufeff" not in blanks:  # around JSON as well as in it
            monkeypatch.setenv(variable, blanks.strip("\u00a0\u2028").format(text_of(value)))
            assert getattr(Settings(), name) == expected, repr(blanks)
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{variable}_FILE", f"{file}\n")
    for blanks in BLANKS:
        file.write_text(blanks.format(text_of(value)), encoding="utf-8")
        assert getattr(Settings(), name) == expected, repr(blanks)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("character", ["\x00", "\x01", "\n", "\x7f", "\x85", "\u2028"])
def test_control_characters_inside_are_refused_by_name(
    name: str, character: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only a file can hold a NUL."""
    value, variable, file = SAMPLES[name], name.upper(), tmp_path / "secret"

    def spoiled(text: str) -> str:
        return f"{text[:1]}{character}{text[1:]}"

    if isinstance(value, dict):
        value = {spoiled(key): each for key, each in value.items()}
    file.write_text(text_of(mapped(value, spoiled)), encoding="utf-8", newline="")
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{variable}_FILE", str(file))
    with pytest.raises(ValidationError) as refused:
        Settings()
    message = str(refused.value)
    assert variable in message
    assert f"the control character U+{ord(character):04X}" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metrics_token", "two words of which one is long enough"),
        ("metrics_token", "mit-Umläuten-die-in-keiner-Kopfzeile-stehen"),
        ("public_url", "https://billing.example.com https://other.example.com"),
        ("otel_exporter_otlp_endpoint", "http://otel collector:4318"),
        ("stripe_live", {**STRIPE, "publishable_key": "pk_live_1 pk_live_2"}),
        ("issuers", [{**ISSUER, "jwks_url": "https://id.example.com/jwks keys"}]),
        ("packs", {" standard": {"price_minor": 500, "credits": 20}}),
        ("encryption_keys", {"k1 ": KEY}),
    ],
)
def test_blanks_inside_are_refused_where_they_can_only_be_a_mistake(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name.upper(), text_of(value))
    with pytest.raises(ValidationError, match=rf"(?i){name}"):
        Settings()


def test_a_file_that_is_not_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff" * 40)
    monkeypatch.setenv("METRICS_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(SettingsError, match=r"METRICS_TOKEN_FILE: .* is not text in UTF-8"):
        Settings()
