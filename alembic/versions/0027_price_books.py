"""Versions of price books, their activations, and models without a price (ADR 27)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

APPEND_ONLY = ("price_books", "price_book_activations")
REFUSE = """
CREATE TRIGGER {table}_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""
# A trigger, so that no statement can put prices in force without a notification.
NOTIFY = """
CREATE FUNCTION notify_price_books() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('price_books', '');
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "price_books",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("document", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column("based_on", sa.BigInteger(), nullable=True),
        *_author("proposed_by"),
        sa.CheckConstraint("version > 0", name=op.f("ck_price_books_version")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_price_books_currency")),
        sa.CheckConstraint("based_on < version", name=op.f("ck_price_books_based_on")),
        sa.ForeignKeyConstraint(
            ["based_on"],
            ["price_books.version"],
            name=op.f("fk_price_books_based_on_price_books"),
            ondelete="RESTRICT",
        ),
        _admin("price_books"),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_price_books")),
    )
    op.create_table(
        "price_book_activations",
        sa.Column("activation_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False, comment="the version's"),
        sa.Column(
            "effective_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="events from then on have its prices",
        ),
        *_author("activated_by"),
        sa.CheckConstraint("activation_no > 0", name=op.f("ck_price_book_activations_activation_no")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_price_book_activations_currency")),
        sa.ForeignKeyConstraint(
            ["version"],
            ["price_books.version"],
            name=op.f("fk_price_book_activations_version_price_books"),
            ondelete="RESTRICT",
        ),
        _admin("price_book_activations"),
        sa.PrimaryKeyConstraint("activation_no", name=op.f("pk_price_book_activations")),
    )
    op.create_table(
        "unknown_models",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, comment="of the last event: no_row, disputed, …"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="of the last event"),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("events > 0", name=op.f("ck_unknown_models_events")),
        sa.CheckConstraint("outcome IN ('refused', 'stated_price')", name=op.f("ck_unknown_models_outcome")),
        sa.PrimaryKeyConstraint("provider", "model", name=op.f("pk_unknown_models")),
    )
    for table in APPEND_ONLY:
        op.execute(REFUSE.format(table=table))
    op.execute(NOTIFY)
    op.execute(
        "CREATE TRIGGER price_book_activations_notify AFTER INSERT ON price_book_activations"
        " FOR EACH STATEMENT EXECUTE FUNCTION notify_price_books()"
    )


def _author(who: str) -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(who, sa.Text(), nullable=False, comment="an admin's e-mail address at that time, or the command"),
        sa.Column("admin_id", sa.Uuid(), nullable=True, comment="null: the command line"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def _admin(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["admin_id"], ["admin_users.admin_id"], name=op.f(f"fk_{table}_admin_id_admin_users"), ondelete="RESTRICT"
    )


def downgrade() -> None:
    op.drop_table("unknown_models")
    op.drop_table("price_book_activations")
    op.drop_table("price_books")
    op.execute("DROP FUNCTION notify_price_books()")
