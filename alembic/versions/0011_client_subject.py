"""API keys can be bound to a client certificate's subject."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NOTIFY = """
    CREATE OR REPLACE TRIGGER api_keys_notify
        AFTER DELETE OR UPDATE OF key_id, environment, secret_hash, permissions, ip_allow_list, {further}
            rate_limit_per_minute, expires_at, revoked_at, rotated_to, grace_ends_at
        ON api_keys FOR EACH ROW EXECUTE FUNCTION notify_api_key()
"""


def upgrade() -> None:
    op.add_column(
        "api_keys",
        sa.Column(
            "client_subject",
            sa.Text(),
            nullable=True,
            comment="subject of the client certificate that requests must come with; null: none is needed",
        ),
    )
    op.create_check_constraint(
        op.f("ck_api_keys_client_subject"),
        "api_keys",
        "length(client_subject) BETWEEN 1 AND 512",
        postgresql_not_valid=True,
    )
    op.execute(NOTIFY.format(further="client_subject,"))
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE api_keys VALIDATE CONSTRAINT ck_api_keys_client_subject")


def downgrade() -> None:
    op.execute(NOTIFY.format(further=""))
    op.drop_column("api_keys", "client_subject")
