"""Version mark: the oldest version of the service that may still run on the database (ADR 26).

It is the comment of `alembic_version`, and names a revision: versions that do not know it refuse to start. Values that
older versions cannot read are written only once the mark excludes these versions:

    await mark.require("0025")
"""

import re

from app.db.database import Database
from app.errors import Busy

OLDEST = "This schema works with versions of the service that know revision {}."
"""The comment's text. Versions that were released before parse it as well."""
RETRY_AFTER_S = 60
NO_TABLE, NO_PRIVILEGE = "42P01", "42501"
_OLDEST = re.compile(re.escape(OLDEST).replace(r"\{\}", r"(\w+)"))
_FIND_COMMENT = "SELECT obj_description(to_regclass('alembic_version'), 'pg_class') AS comment"


class UpgradeInProgress(Busy):
    """An older version of the service may still run beside this one, and could not read what the request writes."""

    code = "upgrade_in_progress"

    def __init__(self) -> None:
        super().__init__("An upgrade of the service is in progress, retry later", retry_after_s=RETRY_AFTER_S)


def oldest_of(comment: str | None) -> str | None:
    """Return the revision that the comment names. None: no comment of ours."""
    found = _OLDEST.fullmatch(comment or "")
    return None if found is None else found[1]


async def oldest_running(db: Database) -> str | None:
    """Return the first revision that every running version knows. None: unknown, so any version may run."""
    row = await db.fetch_row(_FIND_COMMENT)
    return None if row is None else oldest_of(row["comment"])


class VersionMark:
    """The mark, as one process knows it. The mark only rises, so what it excludes once stays excluded."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._oldest = ""

    async def require(self, revision: str) -> None:
        """Raise UpgradeInProgress while a version that does not know `revision` may run."""
        if not await self.excludes_before(revision):
            raise UpgradeInProgress

    def excludes(self, revision: str) -> bool:
        """Return whether no version that does not know `revision` may run, as far as the process knows. No I/O."""
        return self._oldest >= revision

    async def excludes_before(self, revision: str) -> bool:
        """Return whether no version that does not know `revision` may run."""
        if self._oldest < revision:
            self._oldest = await oldest_running(self._db) or ""
        return self.excludes(revision)
