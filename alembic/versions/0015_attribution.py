"""The model and agent of interactions' cost and paid credits: shares, and their sums by day.

The worker fills them from the books, with a separate mark. Until it has, reports compute the rest, and are as exact.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COUNTS = ("llm_calls", "prompt_tokens", "completion_tokens", "cost_cents")
EMPTY = "empty: not named"


def numbers(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Numeric(), nullable=False) for name in names]


def text(name: str, comment: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def of_an_interaction(table: str) -> sa.ForeignKeyConstraint:
    """Return a foreign key that follows an interaction's renaming on erasure, by a worker of any version."""
    return sa.ForeignKeyConstraint(
        ["account_id", "interaction_id"],
        ["llm_interactions.account_id", "llm_interactions.interaction_id"],
        name=op.f(f"fk_{table}_account_id_llm_interactions"),
        onupdate="CASCADE",
    )


def upgrade() -> None:
    op.add_column(
        "rollup_state",
        sa.Column(
            "attributed_up_to",
            sa.Uuid(),
            server_default=sa.text("'00000000-0000-0000-0000-000000000000'"),
            nullable=False,
            comment="what has a lower id is in the attribution; never above rolled_up_to",
        ),
    )
    op.create_table(
        "interaction_calls",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        text("interaction_id"),
        text("model"),
        *numbers(*COUNTS),
        of_an_interaction("interaction_calls"),
        sa.PrimaryKeyConstraint("account_id", "interaction_id", "model", name=op.f("pk_interaction_calls")),
    )
    op.create_table(
        "interaction_shares",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        text("interaction_id"),
        sa.Column("day", sa.Date(), nullable=False),
        text("agent_id", EMPTY),
        text("model", EMPTY),
        text("environment"),
        text("currency", "of the account"),
        sa.Column(
            "interactions", sa.BigInteger(), nullable=False, comment="1 on the day and agent of its cost, else 0"
        ),
        *numbers(*COUNTS),
        sa.Column("paid", sa.Numeric(), nullable=False, comment="paid credits, split among the models"),
        of_an_interaction("interaction_shares"),
        sa.PrimaryKeyConstraint(
            "account_id", "interaction_id", "day", "agent_id", "model", name=op.f("pk_interaction_shares")
        ),
    )
    op.create_table(
        "attribution_days",
        text("environment"),
        sa.Column("day", sa.Date(), nullable=False),
        text("currency"),
        text("agent_id", EMPTY),
        text("model", EMPTY),
        sa.Column("interactions", sa.BigInteger(), nullable=False),
        *numbers(*COUNTS, "paid"),
        sa.PrimaryKeyConstraint(
            "environment", "day", "currency", "agent_id", "model", name=op.f("pk_attribution_days")
        ),
    )


def downgrade() -> None:
    op.drop_table("attribution_days")
    op.drop_table("interaction_shares")
    op.drop_table("interaction_calls")
    op.drop_column("rollup_state", "attributed_up_to")
