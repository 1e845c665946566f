"""The markup and the discount of the terms that a subscriber keeps, on its account (ADR 42). Only adds.

The columns are null for every account without a subscription, so adding them rewrites nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

COLUMNS = {
    "plan_markup_percent": "of kept terms; null: none",
    "plan_discount_percent": "of the same terms",
}
CHECKS = {
    "plan_terms": "(plan_markup_percent IS NULL) = (plan_discount_percent IS NULL)",
    "plan_percents": "plan_markup_percent >= -100 AND plan_discount_percent BETWEEN 0 AND 99",
}
ADD_CHECK = """
-- squawk-ignore ban-drop-constraint
ALTER TABLE accounts DROP CONSTRAINT IF EXISTS ck_accounts_{name},
    ADD CONSTRAINT ck_accounts_{name} CHECK ({condition}) NOT VALID
"""
"""The migration may run again after a part of it has committed, so the constraint may exist."""


def upgrade() -> None:
    for name, comment in COLUMNS.items():
        column = sa.Column(name, sa.Numeric(10, 4), nullable=True, comment=comment)
        op.add_column("accounts", column, if_not_exists=True)
    for name, condition in CHECKS.items():
        op.execute(ADD_CHECK.format(name=name, condition=condition))
    with op.get_context().autocommit_block():
        for name in CHECKS:
            op.execute(f"ALTER TABLE accounts VALIDATE CONSTRAINT ck_accounts_{name}")


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("accounts", name)
