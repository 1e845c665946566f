"""Ids and times that the valid rows share."""

import uuid
from datetime import UTC, datetime
from typing import Any

NOW = datetime.now(UTC)
ACCOUNT = uuid.UUID(int=1)
INVITER = uuid.UUID(int=3)
ADMIN = uuid.UUID(int=78)
NOBODY = uuid.UUID(int=99)
HOLD = uuid.UUID(int=79)
CLAIMED = uuid.UUID(int=98)
"""A grant that has a claim."""
CHARGED = uuid.UUID(int=92)
"""A charge that others may repeat."""
LIMIT = uuid.UUID(int=94)
RECORD = uuid.UUID(int=93)
RERATING = uuid.UUID(int=96)
CORRECTION = uuid.UUID(int=97)
CONSENT, CARD = uuid.UUID(int=54), uuid.UUID(int=55)
BOOK_VERSION = 10**12
"""Beyond the versions that other tests store."""
Row = dict[str, Any]
