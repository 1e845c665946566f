"""The table of API keys."""

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Text, text
from sqlalchemy.dialects.postgresql import CIDR
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class ApiKey(Base):
    """A key by its public id. Only a hash of the secret is stored.

    A trigger notifies every process of a change to any column but `name`, `last_used_at` and `requests_total`. Another
    one copies the event source to the successor when `rotated_to` is set.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("key_id ~ '^[0-9a-z]{16}$'", name="key_id"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("length(name) BETWEEN 1 AND 255", name="name"),
        CheckConstraint("secret_hash LIKE '$argon2id$%'", name="secret_hash"),
        CheckConstraint(
            "cardinality(permissions) > 0 AND permissions <@ ARRAY['billing:read', 'billing:write', 'billing:credit',"
            " 'usage:read', 'usage:write', 'usage:set_cost', 'money:credit', 'limits:write', 'payments:redeem'"
            "]::text[]",
            name="permissions",
        ),
        CheckConstraint("rate_limit_per_minute > 0", name="rate_limit_per_minute"),
        CheckConstraint("length(client_subject) BETWEEN 1 AND 512", name="client_subject"),
        CheckConstraint(
            "identity_provider ~ '^oauth:.' AND length(identity_provider) <= 255", name="identity_provider"
        ),
        CheckConstraint("event_source ~ '^[!-~]{1,255}$'", name="event_source"),
        CheckConstraint(
            "usage_policy = 'refuse' OR (usage_policy = 'debt' AND debt_limit_nanos IS NOT NULL)", name="usage_policy"
        ),
        CheckConstraint("double_charges IN ('ignore', 'flag', 'refuse')", name="double_charges"),
        CheckConstraint("debt_limit_nanos >= 0", name="debt_limit_nanos"),
        CheckConstraint("max_cost_nanos >= 0", name="max_cost_nanos"),
        CheckConstraint("max_cost_nanos IS NOT NULL OR NOT 'usage:set_cost' = ANY (permissions)", name="stated_cost"),
        CheckConstraint("(rotated_to IS NULL) = (grace_ends_at IS NULL)", name="rotation"),
    )

    key_id: Mapped[str] = mapped_column(Text, primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    secret_hash: Mapped[str] = mapped_column(Text, comment="Argon2id of the whole key text")
    permissions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    ip_allow_list: Mapped[list[str]] = mapped_column(ARRAY(CIDR), comment="empty: any address")
    rate_limit_per_minute: Mapped[int | None] = mapped_column(BigInteger, comment="null: the configured default")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    rotated_to: Mapped[str | None] = mapped_column(ForeignKey("api_keys.key_id", ondelete="RESTRICT"), unique=True)
    grace_ends_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="end of a rotated key")
    last_used_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="written at most once a minute")
    requests_total: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="written with last_used_at or soon after"
    )
    client_subject: Mapped[str | None] = mapped_column(
        Text, comment="subject of the client certificate that requests must come with; null: none is needed"
    )
    identity_provider: Mapped[str | None] = mapped_column(
        Text, comment="provider of the external ids that `user_id` names"
    )
    event_source: Mapped[str | None] = mapped_column(Text, comment="source of usage events; null: api-key:<key id>")
    usage_policy: Mapped[str] = mapped_column(Text, server_default=text("'refuse'"))
    debt_limit_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="most debt of an account by usage")
    max_cost_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="largest stated cost of an event")
    double_charges: Mapped[str] = mapped_column(Text, server_default=text("'ignore'"))
