"""Purchases store the buyer's next action, which distinguishes payments that take days from abandoned ones."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "purchases",
        sa.Column(
            "next_action",
            sa.Text(),
            nullable=True,
            comment="Stripe's type of what the buyer has to do; counts while the status is requires_action",
        ),
    )


def downgrade() -> None:
    op.drop_column("purchases", "next_action")
