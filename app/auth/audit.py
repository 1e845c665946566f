"""The audit record of a change that no admin makes: for packages below `admin`, which writes the audit log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from app.auth.caller import Actor, Environment
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


class RecordByCaller(Protocol):
    """Writes an audit row of an API key or a user, in the transaction that makes the change."""

    async def __call__(
        self,
        tx: Session,
        actor: Actor,
        action: str,
        target_type: str,
        target_id: object,
        *,
        environment: Environment,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any],
        now: datetime,
    ) -> None: ...
