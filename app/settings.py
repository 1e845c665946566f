"""Settings: one typed class, read from environment variables and Docker secret files.

Every field is the environment variable of the same name in capitals. `NAME_FILE=/run/secrets/x` reads the value
from a file instead. Values that admins change while the service runs are runtime configuration (app/configuration).

To add a setting, add a field with a description here and its row in docs/settings.md: tests/test_docs.py prints the
table when it is out of date.
"""

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.issuers import Issuer, google_issuers
from app.packs import KnownCurrency, OfferedPack
from app.products import Product
from app.setting_rules import (
    AppScheme,
    Origin,
    check_app_schemes,
    check_encryption_keys,
    check_origins,
    check_postgres_url,
    check_redis_setting,
    check_token,
)
from app.setting_values import SecretFiles, Slug, clean
from app.stripe_keys import StripeKeys

MIN_SECRET_CHARS = 32


class Mode(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    DEMO = "demo"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    mode: Mode = Field(default=Mode.PRODUCTION, description="`production` refuses demo parts and weak secrets.")
    database_url: SecretStr = Field(description="PostgreSQL of the service's role, `postgresql://…`.")
    database_owner_url: SecretStr | None = Field(
        default=None, description="The role that owns the schema and migrates it. Default: `DATABASE_URL`."
    )
    database_direct_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL itself, where `DATABASE_URL` is a pooler's (PgBouncer): for LISTEN, the worker and "
        "commands. Default: `DATABASE_URL`.",
    )
    database_statement_cache_size: int = Field(
        default=100,
        ge=0,
        le=1000,
        description="Prepared statements per connection. 0 behind a pooler that keeps none (PgBouncer before 1.21).",
    )
    database_start_wait_s: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="How long `serve` and `worker` wait at start for a database with a schema that fits.",
    )
    database_read_url: SecretStr | None = Field(
        default=None, description="A streaming replica, same role: the back office's lists and reports. Never money."
    )
    database_read_max_lag_s: float = Field(
        default=5.0, ge=1, le=3600, description="Reports come from the primary while the replica is further behind."
    )
    database_pool_size: int = Field(default=10, ge=3, le=200, description="Connections per process.")
    database_timeout_s: float = Field(
        default=3.0, gt=0, le=60, description="Longest wait for a connection, a lock or a statement."
    )
    request_timeout_s: float = Field(
        default=4.5,
        gt=0,
        le=60,
        description="A request that takes longer answers 503. Callers give up at 5 s.",
    )
    request_head_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="A connection is closed if the head of its request has not arrived by then.",
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Larger request bodies answer 413.")

    host: str = Field(default="127.0.0.1", description="Address that `serve` listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that `serve` listens on.")
    drain_s: float = Field(
        default=3.0, ge=0, le=60, description="How long `serve` continues after SIGTERM, while `/ready` answers 503."
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        default=[], description="Networks (JSON list of CIDRs) whose `X-Forwarded-For` is trusted."
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe log line.")
    log_json: bool = Field(default=True, description="JSON lines; `false` for a terminal.")
    metrics_token: SecretStr | None = Field(
        default=None, description="Bearer token of `/metrics`. Required in production."
    )
    worker_metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port on which `worker` answers `/metrics` and `/health`, at `HOST`. Absent: none.",
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Where traces go by OTLP over HTTP, such as `http://otel-collector:4318`; needs the extra `otel`. "
        "The SDK's other `OTEL_*` variables count too. Absent: no traces.",
    )
    sentry_dsn: SecretStr | None = Field(
        default=None,
        description="Where errors are reported, without callers' data; needs the extra `sentry`. Absent: nowhere.",
    )

    free_uses: int = Field(default=3, ge=0, le=1_000_000, description="One-time free uses of a new account.")
    daily_free_uses: int = Field(default=0, ge=0, le=1_000_000, description="Free uses per account and UTC day.")
    default_plan_name: str = Field(default="free", max_length=255, description="Plan name of a new account.")
    default_currency: KnownCurrency = Field(
        default="USD", description="Currency of a new account; a pack must be sold in it."
    )
    packs: dict[Slug, OfferedPack] = Field(
        default={"standard": OfferedPack(price_minor=500, credits=20)},
        description="JSON object of price packs. A purchase that names none buys the first in the account's currency.",
        min_length=1,
    )
    products: dict[Slug, Product] = Field(
        default={
            "web_search": Product(initial_free=10, daily_free=3, price_credits=1),
            "image_gen": Product(initial_free=5, daily_free=0, price_credits=10),
        },
        description="JSON object of tools: price and free tier each.",
    )

    stripe_live: StripeKeys | None = Field(
        default=None,
        description="JSON `{secret_key, publishable_key, webhook_secret}` of the live environment.",
    )
    stripe_test: StripeKeys | None = Field(default=None, description="The same for the test environment.")
    stripe_api_base: str | None = Field(default=None, description="Stripe's address, for the local Stripe only.")
    stripe_timeout_s: float = Field(default=3.0, gt=0, le=60, description="Time-out of one call to Stripe.")

    max_open_purchases: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Open and unpaid purchases that one account may have. One that the buyer does not begin to pay "
        "expires after 24 hours.",
    )
    closed_account_payments: Literal["refund", "review"] = Field(
        default="refund",
        description="Money that arrives for a closed or erased account: `refund` gives it back to the payer, "
        "`review` leaves it to an admin. It is never credited.",
    )
    return_url_schemes: list[AppScheme] = Field(
        default=[],
        description='JSON list of app schemes, such as `["myapp"]`, that a purchase\'s `return_url` may have beside '
        "`http` and `https`.",
    )

    encryption_keys: dict[str, SecretStr] = Field(
        default={},
        description="JSON object, id -> 32 random bytes in base64: encrypt the provider keys that admins set. "
        "The first encrypts; the others only decrypt their own rows (`ciris-billing config reseal`).",
    )

    google_client_ids: list[str] = Field(
        default=[], description="JSON list of OAuth client ids whose Google ID tokens are accepted."
    )
    issuers: list[Issuer] = Field(default=[], description="JSON list of further OIDC issuers.")
    identity_digest_key: SecretStr | None = Field(
        default=None,
        description="Keys the digests that remain of users who deleted their accounts, so that a new account gets no "
        "second free uses. Never change it. Absent in production: users cannot delete their accounts.",
    )
    folded_providers: list[Annotated[str, StringConstraints(pattern="^oauth:.{1,249}$")]] = Field(
        default=[],
        description='JSON list of providers, such as `["oauth:google"]`: new identities of theirs are stored in small '
        "letters and Unicode's form NFC. Identities that exist keep their spelling.",
    )

    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+$",
        description="Address that browsers use, such as `https://billing.example.com`. Default: `HOST` and `PORT`.",
    )
    cors_origins: list[Origin] = Field(
        default=[],
        description="JSON list of the web apps' origins, such as `https://app.example.com`, whose pages may call the "
        "routes of end users from the browser. Exact: no wildcards. In production `https` only.",
    )
    admin_oauth_issuer: str = Field(
        default="https://accounts.google.com",
        description="OpenID provider that signs admins in. A slash at its end makes no difference.",
    )
    admin_oauth_client_id: str | None = Field(
        default=None, description="OAuth client id of the back office. Absent: no admin can sign in."
    )
    admin_oauth_client_secret: SecretStr | None = Field(default=None, description="Its secret, where it has one.")
    admin_email_domain: str = Field(
        default="ciris.ai",
        pattern=r"^[a-z0-9.-]+$",
        description="Only verified e-mail addresses of this domain may sign in. Google must also name it as the "
        "account's own (`hd`).",
    )
    admin_session_secret: SecretStr | None = Field(
        default=None, description="Signs admins' sessions. Changing it signs all admins out."
    )
    admin_ui_dir: Path = Field(
        default=Path("admin-ui/dist"), description="Where the back office's built pages are, from the project's folder."
    )
    admin_support_credit_limit: int = Field(
        default=100, ge=0, description="Most credits that the role `support` may give or take at once."
    )
    admin_support_daily_credit_limit: int = Field(
        default=1000, ge=0, description="Most credits that one of the role `support` may give and take in 24 hours."
    )
    admin_support_money_limit: int = Field(
        default=10,
        ge=0,
        le=9_000_000,
        description="Most money that the role `support` may give or take at once, in the currency's major unit.",
    )
    admin_support_daily_money_limit: int = Field(
        default=100,
        ge=0,
        le=9_000_000,
        description="Most money that one of the role `support` may give and take in 24 hours, in each currency's "
        "major unit.",
    )
    admin_support_daily_suspension_limit: int = Field(
        default=50, ge=0, description="Most accounts that one of the role `support` may suspend in 24 hours."
    )

    usage_max_age_days: int = Field(
        default=35, ge=1, le=92, description="Oldest usage event that is accepted, by its own time."
    )
    usage_max_ahead_s: int = Field(
        default=300, ge=0, le=86_400, description="How far in the future a usage event's own time may lie."
    )
    usage_debt_plans: list[Annotated[str, StringConstraints(min_length=1, max_length=255)]] = Field(
        default=[],
        description="JSON list of plans whose accounts always have the usage policy `debt`: the part that their money "
        "does not cover becomes debt.",
    )
    usage_debt_limit: int = Field(
        default=100,
        ge=0,
        le=9_000_000,
        description="Most debt by usage that an account may have, in the currency's major unit, where the API key has "
        "no limit: for CloudEvents and `USAGE_DEBT_PLANS`.",
    )
    cost_record_expires_s: int = Field(
        default=3600, ge=1, le=86_400, description="When a cost record that is left open is settled by its policy."
    )
    cost_record_on_expiry: Literal["charge_reported", "charge_nothing"] = Field(
        default="charge_reported",
        description="What happens to a cost record that is left open, unless it says so itself: `charge_reported` "
        "charges its items, `charge_nothing` does not.",
    )

    rate_limit_per_key: int = Field(default=6000, ge=1, description="Requests per minute and API key.")
    rate_limit_per_address: int = Field(default=12000, ge=1, description="Requests per minute and client address.")
    rate_limit_per_account: int = Field(
        default=3000, ge=1, description="Requests per minute that name one account, from all callers together."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis or Valkey, `redis://…` or `rediss://…`, through which processes share these limits. "
        "Without it each process applies them alone.",
    )
    key_rotation_grace_s: int = Field(
        default=86_400, ge=0, le=315_360_000, description="How long a rotated key still works: ten years at most."
    )

    @model_validator(mode="before")
    @classmethod
    def _values_are_clean(cls, values: Any) -> Any:
        return clean(values) if isinstance(values, dict) else values

    _postgres_urls = field_validator("database_url", "database_owner_url", "database_direct_url", "database_read_url")(
        check_postgres_url
    )
    _redis_url = field_validator("redis_url")(check_redis_setting)
    _metrics_token = field_validator("metrics_token")(check_token)
    _return_url_schemes = field_validator("return_url_schemes")(check_app_schemes)
    _cors_origins = field_validator("cors_origins")(check_origins)
    _encryption_keys = field_validator("encryption_keys")(check_encryption_keys)

    @model_validator(mode="after")
    def _new_accounts_can_buy(self) -> Self:
        if all(pack.currency != self.default_currency for pack in self.packs.values()):
            raise ValueError(f"PACKS has no pack in {self.default_currency}, which is DEFAULT_CURRENCY")
        return self

    @model_validator(mode="after")
    def _environments_are_apart(self) -> Self:
        live, test = self.stripe_live, self.stripe_test
        if live is not None and test is not None and live.webhook_secret == test.webhook_secret:
            raise ValueError("STRIPE_LIVE and STRIPE_TEST have one webhook_secret: an event could be either's")
        return self

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        if self.mode is not Mode.PRODUCTION:
            return self
        if self.stripe_api_base is not None:
            raise ValueError("STRIPE_API_BASE points to a local Stripe; production refuses it")
        if any(origin.startswith("http://") for origin in self.cors_origins):
            raise ValueError("CORS_ORIGINS names an origin without TLS; production refuses it")
        if any(str(issuer.jwks_url).startswith("http://") for issuer in self.issuers):
            raise ValueError("ISSUERS names a jwks_url without TLS; production refuses it")
        if self.metrics_token is None:
            raise ValueError("METRICS_TOKEN is required in production")
        secrets = {"METRICS_TOKEN": self.metrics_token}
        if self.admin_oauth_client_id is not None:
            if self.admin_session_secret is None:
                raise ValueError("ADMIN_SESSION_SECRET is required in production when admins sign in")
            if not all(url.startswith("https://") for url in (self.admin_oauth_issuer, self.base_url)):
                raise ValueError("ADMIN_OAUTH_ISSUER and PUBLIC_URL need https:// in production when admins sign in")
        if self.admin_session_secret is not None:
            secrets["ADMIN_SESSION_SECRET"] = self.admin_session_secret
        if self.identity_digest_key is not None:
            secrets["IDENTITY_DIGEST_KEY"] = self.identity_digest_key
        for name, keys in (("STRIPE_LIVE", self.stripe_live), ("STRIPE_TEST", self.stripe_test)):
            if keys is not None:
                secrets[f"{name}.secret_key"] = keys.secret_key
                secrets[f"{name}.webhook_secret"] = keys.webhook_secret
        for name, secret in secrets.items():
            value = secret.get_secret_value()
            if len(value) < MIN_SECRET_CHARS or "demo" in value or "changeme" in value.lower():
                raise ValueError(f"{name} is too short (under {MIN_SECRET_CHARS} characters) or a default value")
        for mode, keys in (("live", self.stripe_live), ("test", self.stripe_test)):
            # With a key of the test mode, test cards would buy live credits.
            if keys is not None and not keys.secret_key.get_secret_value().startswith((f"sk_{mode}_", f"rk_{mode}_")):
                raise ValueError(f"STRIPE_{mode.upper()}.secret_key is none of Stripe's {mode} mode")
        return self

    @property
    def digest_key(self) -> bytes | None:
        """The key of deleted identities' digests. None: production without IDENTITY_DIGEST_KEY."""
        if self.identity_digest_key is not None:
            return self.identity_digest_key.get_secret_value().encode()
        return None if self.mode is Mode.PRODUCTION else b"not in production"

    @property
    def direct_url(self) -> SecretStr:
        """PostgreSQL without a pooler, as the service's role."""
        return self.database_direct_url or self.database_url

    @property
    def is_pooled(self) -> bool:
        """Whether `database_url` is a pooler's, which assigns connections for one transaction at a time."""
        return self.database_direct_url is not None

    @property
    def base_url(self) -> str:
        """The service's address for browsers, without a slash at the end."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def all_issuers(self) -> list[Issuer]:
        """The configured issuers, Google first when client ids are given."""
        if not self.google_client_ids:
            return self.issuers
        return [*google_issuers(self.google_client_ids), *self.issuers]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, SecretFiles(settings_cls)


@cache
def load_settings() -> Settings:
    """Return the process's settings. Raises pydantic.ValidationError, which names every wrong variable."""
    return Settings()
