"""Column types that the models share."""

from sqlalchemy import (
    DateTime,
)

Timestamp = DateTime(timezone=True)
