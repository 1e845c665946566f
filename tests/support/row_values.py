"""Ids and times that the valid rows share."""

import uuid
from datetime import UTC, datetime
from typing import Any

NOW = datetime.now(UTC)
ACCOUNT = uuid.UUID(int=1)
ADMIN = uuid.UUID(int=78)
NOBODY = uuid.UUID(int=99)
HOLD = uuid.UUID(int=79)
RECORD = uuid.UUID(int=93)
RERATING = uuid.UUID(int=96)
CORRECTION = uuid.UUID(int=97)
BOOK_VERSION = 10**12
"""Beyond the versions that other tests store."""
Row = dict[str, Any]
