"""Purchases, events and cursors carry the payment provider in their keys (ADR 25).

Only adds. The earlier unique keys stay for versions that name them in ON CONFLICT; a later revision drops them.

Nothing here may run in one transaction with the rest: indexes are built concurrently. Each statement may run again, so a
migration that failed is simply repeated.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

KEYS = {
    "purchases": ("uq_purchases_provider_payment", ["account_id", "provider", "payment_intent_id"]),
    "payment_events": ("uq_payment_events_provider_event", ["environment", "provider", "event_id"]),
    "payment_cursors": ("uq_payment_cursors_provider", ["environment", "provider"]),
}
MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""Of an earlier run of this revision."""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table, (index, columns) in KEYS.items():
            provider = sa.Column(
                "provider",
                sa.Text(),
                server_default=sa.text("'stripe'"),
                nullable=False,
                comment="the payment provider whose ids the row holds",
            )
            op.add_column(table, provider, if_not_exists=True)
            check = f"ck_{table}_provider"
            op.execute(f"{MAY_DROP}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {check}")
            op.create_check_constraint(op.f(check), table, "provider = 'stripe'", postgresql_not_valid=True)
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}")
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")  # an earlier run may have left an invalid one
            op.create_index(index, table, columns, unique=True, postgresql_concurrently=True)


def downgrade() -> None:
    for table, (index, _) in KEYS.items():
        op.drop_index(index, table_name=table)
        op.drop_column(table, "provider")
