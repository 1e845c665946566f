"""PostgreSQL: connections, transactions, row ids and schema checks. Other packages import the names below from here."""

from app.db.database import (
    ASYNCPG,
    LOOKUP_PLANNING,
    SHARE_OF_LISTS,
    Base,
    Database,
    Session,
    Snapshot,
    requests_database,
    session_bounds,
    was_rolled_back,
)
from app.db.ids import ID_CLOCK, IdClock, first_id_at, new_id, time_of

__all__ = [
    "ASYNCPG",
    "ID_CLOCK",
    "LOOKUP_PLANNING",
    "SHARE_OF_LISTS",
    "Base",
    "Database",
    "IdClock",
    "Session",
    "Snapshot",
    "first_id_at",
    "new_id",
    "requests_database",
    "session_bounds",
    "time_of",
    "was_rolled_back",
]
