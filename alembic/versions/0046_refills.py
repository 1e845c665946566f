"""Automatic refills: settings, consents, saved cards, and refills in flight (ADR 43). Only adds.

The column of `accounts` is null for every account that has no refills, so adding it rewrites nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)
KEEP_CONSENT = """
CREATE OR REPLACE FUNCTION keep_consent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.address IS NULL AND (NEW.account_id, NEW.consent_id, NEW.text, NEW.given_at, NEW.actor_type)
       IS NOT DISTINCT FROM (OLD.account_id, OLD.consent_id, OLD.text, OLD.given_at, OLD.actor_type) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a consent is append-only: only its address may be erased';
END $$
"""
APPEND_ONLY = (
    """
CREATE OR REPLACE TRIGGER card_consents_keep BEFORE UPDATE ON card_consents
    FOR EACH ROW EXECUTE FUNCTION keep_consent()
""",
    """
CREATE OR REPLACE TRIGGER card_consents_append_only BEFORE DELETE OR TRUNCATE ON card_consents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
""",
)
CHECK = """
-- squawk-ignore ban-drop-constraint
ALTER TABLE accounts DROP CONSTRAINT IF EXISTS ck_accounts_refill_below,
    ADD CONSTRAINT ck_accounts_refill_below CHECK (refill_below_nanos > 0) NOT VALID
"""
"""The migration may run again after a part of it has committed, so the constraint may exist."""


def account_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id"], ["accounts.account_id"], name=op.f(f"fk_{table}_account_id_accounts"), ondelete="RESTRICT"
    )


def row_key(table: str, column: str, to: str, to_column: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id", column],
        [f"{to}.account_id", f"{to}.{to_column or column}"],
        name=op.f(f"fk_{table}_account_id_{column}_{to}"),
        ondelete="RESTRICT",
    )


def nanos(name: str, comment: str | None = None, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable, comment=comment)


def text(name: str, comment: str | None = None, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, comment=comment)


def time(name: str, comment: str | None = None, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, TIMESTAMP, nullable=nullable, comment=comment)


def ident(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid(), nullable=False)


def upgrade() -> None:
    op.add_column(
        "accounts",
        nanos(
            "refill_below_nanos",
            "spending that leaves less starts a refill; null: refills are off",
            nullable=True,
        ),
        if_not_exists=True,
    )
    op.execute(CHECK)
    _create_settings()
    _create_cards()
    _create_refills()
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE accounts VALIDATE CONSTRAINT ck_accounts_refill_below")


def _create_settings() -> None:
    op.create_table(
        "refill_settings",
        ident("account_id"),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        nanos("trigger_below_nanos"),
        nanos("amount_nanos", "the exact price and amount of each refill"),
        nanos("monthly_cap_nanos", "null: the operator's", nullable=True),
        text("off_reason", "why the service switched refills off; null: it did not", nullable=True),
        time("off_at", nullable=True),
        sa.Column("declines", sa.BigInteger(), nullable=False, server_default="0", comment="in a row"),
        time("last_declined_at", nullable=True),
        text("last_decline", "the provider's code", nullable=True),
        time("last_started_at", nullable=True),
        time("check_at", "when a job decides about the next refill; null: spending starts one", nullable=True),
        time("created_at"),
        time("updated_at"),
        sa.CheckConstraint("trigger_below_nanos > 0", name=op.f("ck_refill_settings_trigger_below")),
        sa.CheckConstraint("amount_nanos > 0", name=op.f("ck_refill_settings_amount")),
        sa.CheckConstraint("monthly_cap_nanos >= amount_nanos", name=op.f("ck_refill_settings_monthly_cap")),
        sa.CheckConstraint(
            "off_reason IN ('declined', 'disputed', 'suspended', 'closed')", name=op.f("ck_refill_settings_off_reason")
        ),
        sa.CheckConstraint(
            "(off_reason IS NULL) = (off_at IS NULL) AND NOT (enabled AND off_reason IS NOT NULL)",
            name=op.f("ck_refill_settings_off_at"),
        ),
        sa.CheckConstraint("declines >= 0", name=op.f("ck_refill_settings_declines")),
        account_key("refill_settings"),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_refill_settings")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_refill_settings_enabled",
        "refill_settings",
        ["account_id"],
        postgresql_where=sa.text("enabled"),
        if_not_exists=True,
    )


def _create_cards() -> None:
    op.create_table(
        "card_consents",
        ident("account_id"),
        ident("consent_id"),
        text("text", "as the user saw it"),
        text("address", "of the user; null: erased with the person", nullable=True),
        text("actor_type"),
        time("given_at"),
        sa.CheckConstraint("actor_type = 'user'", name=op.f("ck_card_consents_actor_type")),
        account_key("card_consents"),
        sa.PrimaryKeyConstraint("account_id", "consent_id", name=op.f("pk_card_consents")),
        if_not_exists=True,
    )
    op.execute(KEEP_CONSENT)
    for trigger in APPEND_ONLY:
        op.execute(trigger)
    op.create_table(
        "card_setups",
        ident("account_id"),
        ident("setup_id"),
        ident("consent_id"),
        text("provider"),
        text("provider_customer_id"),
        text("checkout_session_id", "of the page that saves the card; null: not opened", nullable=True),
        text("status"),
        text("success_url", nullable=True),
        text("cancel_url", nullable=True),
        time("created_at"),
        time("updated_at"),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_card_setups_provider")),
        sa.CheckConstraint("status IN ('open', 'completed', 'ended')", name=op.f("ck_card_setups_status")),
        row_key("card_setups", "consent_id", "card_consents"),
        sa.PrimaryKeyConstraint("account_id", "setup_id", name=op.f("pk_card_setups")),
        if_not_exists=True,
    )
    op.create_index(
        "ix_card_setups_open",
        "card_setups",
        ["updated_at"],
        postgresql_where=sa.text("status = 'open'"),
        if_not_exists=True,
    )
    op.create_table(
        "saved_cards",
        ident("account_id"),
        ident("card_id"),
        ident("consent_id"),
        text("provider"),
        text("provider_customer_id"),
        text("provider_method_id"),
        text("brand", "null: unknown, or erased with the person, as the others", nullable=True),
        text("last4", nullable=True),
        sa.Column("expiry_month", sa.BigInteger(), nullable=True),
        sa.Column("expiry_year", sa.BigInteger(), nullable=True),
        sa.Column("is_primary", sa.Boolean(), nullable=False, comment="refills are paid with it"),
        time("created_at"),
        time("removed_at", nullable=True),
        sa.CheckConstraint("provider = 'stripe'", name=op.f("ck_saved_cards_provider")),
        sa.CheckConstraint("NOT (is_primary AND removed_at IS NOT NULL)", name=op.f("ck_saved_cards_is_primary")),
        sa.CheckConstraint("expiry_month BETWEEN 1 AND 12", name=op.f("ck_saved_cards_expiry_month")),
        sa.CheckConstraint("expiry_year BETWEEN 2000 AND 9999", name=op.f("ck_saved_cards_expiry_year")),
        row_key("saved_cards", "consent_id", "card_consents"),
        sa.PrimaryKeyConstraint("account_id", "card_id", name=op.f("pk_saved_cards")),
        sa.UniqueConstraint(
            "account_id",
            "provider",
            "provider_method_id",
            name=op.f("uq_saved_cards_account_id_provider_provider_method_id"),
        ),
        if_not_exists=True,
    )
    op.create_index(
        "uq_saved_cards_primary",
        "saved_cards",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("is_primary"),
        if_not_exists=True,
    )


def _create_refills() -> None:
    op.create_table(
        "refills",
        ident("account_id"),
        ident("purchase_id"),
        ident("card_id"),
        nanos("amount_nanos"),
        text("status"),
        text("decline", "the provider's code", nullable=True),
        text("action_url", "the provider's page on which the user authenticates the payment", nullable=True),
        time("sent_at", "before the first request to the provider; null: certainly not sent", nullable=True),
        time("created_at"),
        time("updated_at"),
        time("finished_at", "null: in flight", nullable=True),
        sa.CheckConstraint("amount_nanos > 0", name=op.f("ck_refills_amount")),
        sa.CheckConstraint(
            "status IN ('in_flight', 'action_required', 'paid', 'declined', 'canceled')",
            name=op.f("ck_refills_status"),
        ),
        sa.CheckConstraint(
            "(finished_at IS NULL) = (status IN ('in_flight', 'action_required'))", name=op.f("ck_refills_finished_at")
        ),
        row_key("refills", "purchase_id", "purchases"),
        row_key("refills", "card_id", "saved_cards"),
        sa.PrimaryKeyConstraint("account_id", "purchase_id", name=op.f("pk_refills")),
        if_not_exists=True,
    )
    op.create_index(
        "uq_refills_in_flight",
        "refills",
        ["account_id"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
        if_not_exists=True,
    )
    op.create_index("ix_refills_created_at", "refills", ["created_at"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("refills")
    op.drop_table("saved_cards")
    op.drop_table("card_setups")
    op.drop_table("card_consents")
    op.execute("DROP FUNCTION keep_consent")
    op.drop_table("refill_settings")
    op.drop_column("accounts", "refill_below_nanos")
