"""Alerts that later accounts join: exempt accounts, and the time at which a finding reopened an alert."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "alerts",
        sa.Column(
            "exempt_ids",
            postgresql.ARRAY(sa.Uuid()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="accounts that stopped does not cover: a person let them go on",
        ),
    )
    op.add_column(
        "alerts",
        sa.Column(
            "reopened_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a later finding opened it again after the decision",
        ),
    )


def downgrade() -> None:
    op.drop_column("alerts", "reopened_at")
    op.drop_column("alerts", "exempt_ids")
