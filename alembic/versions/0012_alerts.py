"""Rules for unusual activity, their findings, and the card that paid for a purchase."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

RULES = "'accounts_per_key', 'purchases_per_card', 'refunds_per_account', 'spend_spike'"
# The initial rules. They only notify.
DEFAULTS = """
INSERT INTO alert_rules (rule, action, threshold, window_h, minimum)
VALUES ('accounts_per_key', 'notify', 1000, 1, 0),
       ('purchases_per_card', 'notify', 5, 24, 0),
       ('refunds_per_account', 'notify', 3, 168, 0),
       ('spend_spike', 'notify', 10, 24, 200)
"""


def upgrade() -> None:
    op.add_column(
        "purchases",
        sa.Column("card_fingerprint", sa.Text(), nullable=True, comment="Stripe's name of the card that paid"),
    )
    op.create_table(
        "alert_rules",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("threshold", sa.BigInteger(), nullable=False),
        sa.Column("window_h", sa.BigInteger(), nullable=False),
        sa.Column("minimum", sa.BigInteger(), nullable=False, comment="credits below which a spike is none"),
        sa.CheckConstraint(f"rule IN ({RULES})", name=op.f("ck_alert_rules_rule")),
        sa.CheckConstraint("action IN ('off', 'notify', 'hold', 'suspend')", name=op.f("ck_alert_rules_action")),
        sa.CheckConstraint(
            "rule <> 'accounts_per_key' OR action IN ('off', 'notify')", name=op.f("ck_alert_rules_keys_only_notify")
        ),
        sa.CheckConstraint("threshold > 0", name=op.f("ck_alert_rules_threshold")),
        sa.CheckConstraint("window_h BETWEEN 1 AND 720", name=op.f("ck_alert_rules_window_h")),
        sa.CheckConstraint("minimum >= 0", name=op.f("ck_alert_rules_minimum")),
        sa.PrimaryKeyConstraint("rule", name=op.f("pk_alert_rules")),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Uuid(), nullable=False, comment="grows with time"),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="an API key's id, an account's id, a card's digest"),
        sa.Column("day", sa.Date(), nullable=False, comment="UTC day on which it was first seen"),
        sa.Column("observed", sa.BigInteger(), nullable=False, comment="the most that was seen"),
        sa.Column("usual", sa.BigInteger(), nullable=True, comment="what the account spends on a day, for a spike"),
        sa.Column("threshold", sa.BigInteger(), nullable=False, comment="of the rule, at that time"),
        sa.Column("window_h", sa.BigInteger(), nullable=False, comment="of the rule, at that time"),
        sa.Column("account_ids", postgresql.ARRAY(sa.Uuid()), nullable=False, comment="that can be stopped for it"),
        sa.Column("status", sa.Text(), server_default=sa.text("'open'"), nullable=False),
        sa.Column("stopped", sa.Text(), nullable=True, comment="hold or suspend: what its accounts are under"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True, comment="an admin's e-mail address, at that time"),
        sa.CheckConstraint("environment IN ('live', 'test')", name=op.f("ck_alerts_environment")),
        sa.CheckConstraint(f"rule IN ({RULES})", name=op.f("ck_alerts_rule")),
        sa.CheckConstraint("status IN ('open', 'dismissed', 'acted')", name=op.f("ck_alerts_status")),
        sa.CheckConstraint("stopped IN ('hold', 'suspend')", name=op.f("ck_alerts_stopped")),
        sa.CheckConstraint("(decided_at IS NULL) = (decided_by IS NULL)", name=op.f("ck_alerts_decided")),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sa.UniqueConstraint(
            "environment", "rule", "subject", "day", name=op.f("uq_alerts_environment_rule_subject_day")
        ),
    )
    op.create_index("ix_alerts_open", "alerts", ["alert_id"], unique=False, postgresql_where=sa.text("status = 'open'"))
    op.execute(DEFAULTS)
    with op.get_context().autocommit_block():
        for name, column, condition in (
            ("ix_purchases_card", "created_at", "card_fingerprint IS NOT NULL"),
            ("ix_purchases_refunded", "updated_at", "refunded_minor > 0"),
        ):
            op.create_index(
                name,
                "purchases",
                [column],
                unique=False,
                postgresql_where=sa.text(condition),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    op.drop_index("ix_purchases_refunded", table_name="purchases")
    op.drop_index("ix_purchases_card", table_name="purchases")
    op.drop_table("alerts")
    op.drop_table("alert_rules")
    op.drop_column("purchases", "card_fingerprint")
