"""Holds: the request, the progress and the settlement of a hold, and the end of a grant (ADR 32). Only adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

COLUMNS = (
    ("grants", sa.Column("ended_at", sa.DateTime(timezone=True), comment="when a caller ended it early")),
    *(
        ("holds", column)
        for column in (
            sa.Column(
                "captured", sa.BigInteger(), nullable=False, server_default="0", comment="spent of it, in the unit"
            ),
            sa.Column("overage", sa.BigInteger(), nullable=False, server_default="0", comment="spent beyond it"),
            sa.Column("fingerprint", sa.LargeBinary(), nullable=False, server_default="", comment="of the request"),
            sa.Column("key_id", sa.Text(), comment="the API key that made it; null: a user or an admin did"),
            sa.Column("product_type", sa.Text(), comment="its purpose"),
            sa.Column("run_id", sa.Text(), comment="the run that it belongs to"),
            sa.Column(
                "metadata",
                postgresql.JSONB(astext_type=sa.Text()),
                nullable=False,
                server_default=sa.text("'{}'::jsonb"),
            ),
            sa.Column("outcome", sa.Text(), comment="the reason of its release, from the caller"),
            sa.Column("settled_at", sa.DateTime(timezone=True), comment="null: it is held"),
            sa.Column("spending_id", sa.Uuid(), comment="the charge, or the usage event, of the captured amount"),
        )
    ),
)
INDEXES = (("ix_holds_due", "expires_at"), ("ix_holds_open", "account_id"))


def upgrade() -> None:
    for table, column in COLUMNS:
        op.add_column(table, column, if_not_exists=True)
    with op.get_context().autocommit_block():
        for name, column in INDEXES:
            op.create_index(
                name,
                "holds",
                [column],
                unique=False,
                postgresql_where=sa.text("status = 'held'"),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for name, _ in reversed(INDEXES):
        op.drop_index(name, table_name="holds")
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column.name)
