"""DatabaseSettings: the settings of PostgreSQL, a part of Settings."""

from pydantic import Field, SecretStr, field_validator

from app.setting_rules import check_postgres_url
from app.setting_values import CleanSettings


class DatabaseSettings(CleanSettings):
    """PostgreSQL: addresses, pools and time-outs."""

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

    _postgres_urls = field_validator("database_url", "database_owner_url", "database_direct_url", "database_read_url")(
        check_postgres_url
    )

    @property
    def direct_url(self) -> SecretStr:
        """PostgreSQL without a pooler, as the service's role."""
        return self.database_direct_url or self.database_url

    @property
    def is_pooled(self) -> bool:
        """Whether `database_url` is a pooler's, which assigns connections for one transaction at a time."""
        return self.database_direct_url is not None
