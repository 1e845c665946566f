"""Refused requests: why a request was answered 402, for a limited time (ADR 36). Only adds a table."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refused_requests",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("refusal_id", sa.Uuid(), nullable=False),
        sa.Column("request_id", sa.Text(), comment="X-Request-ID; null: the person was erased"),
        sa.Column("key_id", sa.Text(), comment="the API key of the request; null: a user's token"),
        sa.Column("route", sa.Text(), nullable=False, comment="as declared, without ids"),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False, comment="the sentence of the answer"),
        sa.Column(
            "figures",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the other members of the answer",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.account_id"],
            name=op.f("fk_refused_requests_account_id_accounts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "refusal_id", name=op.f("pk_refused_requests")),
    )
    op.create_index(op.f("ix_refused_requests_request_id"), "refused_requests", ["request_id"], unique=False)
    op.create_index(op.f("ix_refused_requests_refusal_id"), "refused_requests", ["refusal_id"], unique=False)


def downgrade() -> None:
    op.drop_table("refused_requests")
