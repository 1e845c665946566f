"""Settings: one typed class, read from environment variables and Docker secret files.

Every field is the environment variable of the same name in capitals. `NAME_FILE=/run/secrets/x` reads the value
from a file instead. Values that admins change while the service runs are runtime configuration (app/configuration).

To add a setting, add a field with a description here and its row in docs/settings.md: tests/test_docs.py prints the
table when it is out of date.
"""

from datetime import UTC
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, StringConstraints, field_validator, model_validator

from app.database_settings import DatabaseSettings
from app.issuers import Issuer, google_issuers
from app.packs import KnownCurrency, OfferedPack
from app.products import Product
from app.setting_rules import (
    AppScheme,
    FrontendUrl,
    Origin,
    check_app_schemes,
    check_encryption_keys,
    check_https,
    check_mode,
    check_origins,
    check_redis_setting,
    check_secret,
    check_token,
)
from app.setting_values import Slug, TimeZone
from app.signing_keys import SigningKey, check_signing_keys
from app.stripe_keys import StripeKeys


class Mode(StrEnum):
    PRODUCTION = "production"
    DEVELOPMENT = "development"
    DEMO = "demo"


class Settings(DatabaseSettings):
    mode: Mode = Field(default=Mode.PRODUCTION, description="`production` refuses demo parts and weak secrets.")
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
    zero_pro_plan: str = Field(
        default="pro", max_length=255, description="The plan that `POST /api/subscriptions/zero-pro` sells."
    )
    subscription_grace_days: int = Field(
        default=7,
        ge=0,
        le=90,
        description="Days for which an account keeps its plan after a payment of its subscription was due and failed.",
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
    frontend_url: FrontendUrl | None = Field(
        default=None,
        description="The web app's address. Stripe's pages return to `/billing/success` and `/billing/cancel` there.",
    )
    return_url_origins: list[Origin] = Field(
        default=[],
        description="JSON list of further origins that Stripe's pages may return to. In production `https` only.",
    )

    encryption_keys: dict[str, SecretStr] = Field(
        default={},
        description="JSON object, id -> 32 random bytes in base64: encrypt the provider keys that admins set. "
        "The first encrypts; the others only decrypt their own rows (`ciris-billing config reseal`).",
    )

    signing_keys: list[SigningKey] = Field(
        default=[],
        description="JSON list of Ed25519 keys as JSON Web Keys (`ciris-billing ledger new-key`) for statements of "
        "balances. The first with `d` signs; the public part of each is published. Remove `d` to retire a key.",
    )
    google_client_ids: list[str] = Field(
        default=[], description="JSON list of OAuth client ids whose Google ID tokens are accepted."
    )
    issuers: list[Issuer] = Field(
        default=[],
        description="JSON list of further OIDC issuers of end users: objects of `issuer`, `jwks_url`, `audiences` and "
        "`provider`, with `subject_claim`, `environment`, `interactive_audiences` and `default_limits` as options.",
    )
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
        description="What happens to a cost record that is left open and states no `on_expiry`: `charge_reported` "
        "charges its items, `charge_nothing` does not.",
    )

    time_zone: TimeZone = Field(
        default=UTC, description="Time zone in which the days and months of limits begin, such as `Europe/Kyiv`."
    )

    rate_limit_per_key: int = Field(default=6000, ge=1, description="Requests per minute and API key.")
    rate_limit_per_address: int = Field(default=12000, ge=1, description="Requests per minute and client address.")
    rate_limit_per_account: int = Field(
        default=3000, ge=1, description="Requests per minute that name one account, from all callers together."
    )
    event_streams_per_process: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="Open event streams of one process, and at most half of the files that it may have open.",
    )
    event_streams_per_key: int = Field(
        default=200, ge=0, le=100_000, description="Open event streams per API key and process."
    )
    event_streams_per_user: int = Field(
        default=10, ge=0, le=100_000, description="Open event streams per user and process, by the user's tokens."
    )
    event_stream_lifetime_s: int = Field(
        default=3600, ge=1, le=86_400, description="Longest life of an event stream. Its client resumes with another."
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis or Valkey, `redis://…` or `rediss://…`, through which processes share these limits. "
        "Without it each process applies them alone.",
    )
    key_rotation_grace_s: int = Field(
        default=86_400, ge=0, le=315_360_000, description="How long a rotated key still works: ten years at most."
    )

    _redis_url = field_validator("redis_url")(check_redis_setting)
    _metrics_token = field_validator("metrics_token")(check_token)
    _return_url_schemes = field_validator("return_url_schemes")(check_app_schemes)
    _origins = field_validator("cors_origins", "return_url_origins")(check_origins)
    _encryption_keys = field_validator("encryption_keys")(check_encryption_keys)
    _signing_keys = field_validator("signing_keys")(check_signing_keys)

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
        for name in ("cors_origins", "return_url_origins", "frontend_url"):
            check_https(name, getattr(self, name))
        if any(str(issuer.jwks_url).startswith("http://") for issuer in self.issuers):
            raise ValueError("ISSUERS names a jwks_url without TLS; production refuses it")
        if self.metrics_token is None:
            raise ValueError("METRICS_TOKEN is required in production")
        optional = {"ADMIN_SESSION_SECRET": self.admin_session_secret, "IDENTITY_DIGEST_KEY": self.identity_digest_key}
        secrets = {"METRICS_TOKEN": self.metrics_token} | {name: s for name, s in optional.items() if s is not None}
        if self.admin_oauth_client_id is not None:
            if self.admin_session_secret is None:
                raise ValueError("ADMIN_SESSION_SECRET is required in production when admins sign in")
            if not all(url.startswith("https://") for url in (self.admin_oauth_issuer, self.base_url)):
                raise ValueError("ADMIN_OAUTH_ISSUER and PUBLIC_URL need https:// in production when admins sign in")
        stripe = {mode: keys for mode, keys in (("live", self.stripe_live), ("test", self.stripe_test)) if keys}
        for mode, keys in stripe.items():
            secrets[f"STRIPE_{mode.upper()}.secret_key"] = keys.secret_key
            secrets[f"STRIPE_{mode.upper()}.webhook_secret"] = keys.webhook_secret
        for name, secret in secrets.items():
            check_secret(name, secret)
        for mode, keys in stripe.items():
            check_mode(mode, keys.secret_key)
        return self

    @property
    def digest_key(self) -> bytes | None:
        """The key of deleted identities' digests. None: production without IDENTITY_DIGEST_KEY."""
        if self.identity_digest_key is not None:
            return self.identity_digest_key.get_secret_value().encode()
        return None if self.mode is Mode.PRODUCTION else b"not in production"

    @property
    def base_url(self) -> str:
        """The service's address for browsers, without a slash at the end."""
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def all_issuers(self) -> list[Issuer]:
        """The configured issuers, Google first when client ids are given."""
        google = google_issuers(self.google_client_ids) if self.google_client_ids else []
        return [*google, *self.issuers]


@cache
def load_settings() -> Settings:
    """Return the process's settings. Raises pydantic.ValidationError, which names every wrong variable."""
    return Settings()
