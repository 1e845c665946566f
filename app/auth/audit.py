"""The audit record of a change that no admin makes: for packages below `admin`, which writes the audit log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from app.auth.caller import Environment
from app.db import Session


class RecordBySystem(Protocol):
    """Writes an audit row of the system, in the transaction that makes the change."""

    async def __call__(
        self,
        tx: Session,
        action: str,
        target_type: str,
        target_id: object,
        *,
        environment: Environment,
        after: Mapping[str, Any],
        reason: str,
        now: datetime,
        address: str = ...,
    ) -> None: ...
