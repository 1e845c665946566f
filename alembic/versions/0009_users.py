"""Erased accounts, a table to sort accounts by, requests per API key, and the webhooks' inbox in its order."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# A trigger, so that no statement can end a mapping without a notification. The payload is the account, not the person.
TRIGGERS = (
    """
    CREATE FUNCTION notify_account_identity() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('account_identities', OLD.account_id::text);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER account_identities_notify AFTER UPDATE OR DELETE ON account_identities
        FOR EACH ROW EXECUTE FUNCTION notify_account_identity()
    """,
)


def upgrade() -> None:
    op.add_column(
        "accounts",
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its person was erased: closed for ever",
        ),
    )
    op.create_check_constraint(
        op.f("ck_accounts_erased_at"),
        "accounts",
        "erased_at IS NULL OR status = 'closed'",
        postgresql_not_valid=True,
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "requests_total",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="written with last_used_at or soon after",
        ),
    )
    op.create_table(
        "account_activity",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("paid", sa.BigInteger(), nullable=False),
        sa.Column("last_activity_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_account_activity_environment")),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_account_activity_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_activity")),
    )
    for column in ("paid", "last_activity_at"):
        op.create_index(
            op.f(f"ix_account_activity_environment_{column}_account_id"),
            "account_activity",
            ["environment", column, "account_id"],
            unique=False,
        )
    op.create_table(
        "account_activity_refresh",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("singleton", name=op.f("ck_account_activity_refresh_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_account_activity_refresh")),
    )
    for statement in TRIGGERS:
        op.execute(statement)
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE accounts VALIDATE CONSTRAINT ck_accounts_erased_at")
        op.create_index(
            op.f("ix_payment_events_received_at_created_at_event_id"),
            "payment_events",
            ["received_at", "created_at", "event_id"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index(op.f("ix_payment_events_received_at_created_at_event_id"), table_name="payment_events")
    op.execute("DROP TRIGGER account_identities_notify ON account_identities")
    op.execute("DROP FUNCTION notify_account_identity()")
    op.drop_table("account_activity_refresh")
    op.drop_table("account_activity")
    op.drop_column("api_keys", "requests_total")
    op.drop_column("accounts", "erased_at")
