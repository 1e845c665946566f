"""Erased identities: a keyed digest of each deleted identity, and a mark on later accounts of the same one.

Only adds: the version before names neither.
"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0028"
branch_labels = None
depends_on = None

COMMENT = "an earlier account of its identity was deleted by its user: nothing that is given once"


def upgrade() -> None:
    op.create_table(
        "erased_identities",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="keyed; of the environment and the identity"),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_erased_identities_digest")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erased_identities")),
    )
    op.add_column(
        "accounts",
        sa.Column("is_returning", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment=COMMENT),
    )


def downgrade() -> None:
    op.drop_column("accounts", "is_returning")
    op.drop_table("erased_identities")
