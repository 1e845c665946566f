"""Admin sessions, and the audit log of the back office."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER admin_audit_log_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""


def upgrade() -> None:
    op.create_table(
        "admin_sessions",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("admin_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=False, comment="moves on while the session is used"
        ),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["admin_id"],
            ["admin_users.admin_id"],
            name=op.f("fk_admin_sessions_admin_id_admin_users"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_admin_sessions")),
    )
    op.create_index(
        op.f("ix_admin_sessions_admin_id_created_at"), "admin_sessions", ["admin_id", "created_at"], unique=False
    )
    op.create_index(op.f("ix_admin_sessions_expires_at"), "admin_sessions", ["expires_at"], unique=False)
    op.create_table(
        "admin_audit_log",
        sa.Column("audit_id", sa.Uuid(), nullable=False, comment="grows with time"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("admin_id", sa.Uuid(), nullable=False),
        sa.Column("admin_email", sa.Text(), nullable=False, comment="at that time"),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False, comment="such as account.suspend"),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("target_type", sa.Text(), nullable=False, comment="account, api_key, purchase, admin, session"),
        sa.Column("target_id", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(), nullable=True),
        sa.Column("after", postgresql.JSONB(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_admin_audit_log_environment")),
        sa.CheckConstraint("length(action) BETWEEN 1 AND 64", name=op.f("ck_admin_audit_log_action")),
        sa.ForeignKeyConstraint(
            ["admin_id"],
            ["admin_users.admin_id"],
            name=op.f("fk_admin_audit_log_admin_id_admin_users"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("audit_id", name=op.f("pk_admin_audit_log")),
    )
    op.create_index(
        op.f("ix_admin_audit_log_target_type_target_id_audit_id"),
        "admin_audit_log",
        ["target_type", "target_id", "audit_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_admin_audit_log_admin_id_audit_id"), "admin_audit_log", ["admin_id", "audit_id"], unique=False
    )
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    op.drop_table("admin_audit_log")
    op.drop_table("admin_sessions")
