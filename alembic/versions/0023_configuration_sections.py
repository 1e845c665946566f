"""Configuration sections are declared in the code alone: the table checks a name's form, not a list of names.

The constraint keeps its name, because the version before looks for it when it verifies the ledger. That version ignores
the documents of sections that it does not know.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MAY_DROP = "\n-- squawk-ignore ban-drop-constraint\n"
"""The same statement replaces it by one that allows more."""
REPLACE = """
    ALTER TABLE configuration_versions DROP CONSTRAINT ck_configuration_versions_section,
        ADD CONSTRAINT ck_configuration_versions_section CHECK ({rule}) NOT VALID
"""
VALIDATE = "ALTER TABLE configuration_versions VALIDATE CONSTRAINT ck_configuration_versions_section"


def upgrade() -> None:
    op.execute(MAY_DROP + REPLACE.lstrip().format(rule="section ~ '^[a-z][a-z0-9_]{0,62}$'"))
    with op.get_context().autocommit_block():
        op.execute(VALIDATE)


def downgrade() -> None:
    """Fails where a section was set that earlier versions do not have."""
    op.execute(REPLACE.format(rule="section IN ('packs', 'products', 'defaults', 'provider_live', 'provider_test')"))
    op.execute(VALIDATE)
