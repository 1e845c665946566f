"""The back office's search index: words of people, and digests of their identities' spellings."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# Triggers, so that an erasure by the previous version also deletes the words. Both tables have only the erased person's
# rows, and the worker, which writes them, holds a lock that the deletion waits for.
TRIGGERS = (
    """
    CREATE FUNCTION forget_search_words() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM account_search_words WHERE account_id = OLD.account_id;
        DELETE FROM account_spellings WHERE account_id = OLD.account_id;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER account_identities_forget_words AFTER DELETE ON account_identities
        FOR EACH ROW EXECUTE FUNCTION forget_search_words()
    """,
    """
    CREATE TRIGGER account_profiles_forget_words AFTER DELETE ON account_profiles
        FOR EACH ROW EXECUTE FUNCTION forget_search_words()
    """,
)


def upgrade() -> None:
    op.create_table(
        "account_search_words",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False, comment="folded: see app/accounts/search.py"),
        sa.PrimaryKeyConstraint("account_id", "word", name=op.f("pk_account_search_words")),
    )
    op.create_index(
        op.f("ix_account_search_words_word_account_id"), "account_search_words", ["word", "account_id"], unique=False
    )
    op.create_table(
        "account_spellings",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "shared",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="another account had the same digest",
        ),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_account_spellings_digest")),
        sa.PrimaryKeyConstraint("account_id", "digest", name=op.f("pk_account_spellings")),
    )
    op.create_index(op.f("ix_account_spellings_digest"), "account_spellings", ["digest"], unique=False)
    op.create_index(
        "ix_account_spellings_shared",
        "account_spellings",
        ["digest", "account_id"],
        unique=False,
        postgresql_where=sa.text("shared"),
    )
    op.create_table(
        "account_search_refresh",
        sa.Column("singleton", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("walked_to", sa.Uuid(), nullable=True, comment="null: all accounts were walked over once"),
        sa.CheckConstraint("singleton", name=op.f("ck_account_search_refresh_singleton")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_account_search_refresh")),
    )
    for statement in TRIGGERS:
        op.execute(statement)
    with op.get_context().autocommit_block():
        op.create_index(
            op.f("ix_account_profiles_updated_at"),
            "account_profiles",
            ["updated_at"],
            unique=False,
            postgresql_concurrently=True,
            if_not_exists=True,
        )


def downgrade() -> None:
    op.drop_index(op.f("ix_account_profiles_updated_at"), table_name="account_profiles")
    op.execute("DROP TRIGGER account_profiles_forget_words ON account_profiles")
    op.execute("DROP TRIGGER account_identities_forget_words ON account_identities")
    op.execute("DROP FUNCTION forget_search_words()")
    op.drop_table("account_search_refresh")
    op.drop_table("account_spellings")
    op.drop_table("account_search_words")
