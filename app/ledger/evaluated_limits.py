"""The limits that allowed a request, as its transaction noted them. For explanations."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.db import Database

_FIND_EVALUATED = """
    SELECT l.limit_id, l.scope, l.scope_value, l.time_window AS "window", l.unit, l.action, l.owner, l.account_id,
           (n.value ->> 1)::bigint AS amount, (n.value ->> 2)::bigint AS counted
      FROM evaluated_limits e, jsonb_array_elements(e.limits) WITH ORDINALITY AS n (value, place),
           LATERAL (SELECT * FROM limits WHERE account_id = e.account_id AND limit_id = (n.value ->> 0)::uuid LIMIT 1) l
     WHERE e.account_id = $1 AND e.cause_id = $2 ORDER BY n.place
    """


async def find_evaluated(db: Database, account_id: UUID, cause_id: UUID) -> Sequence[Mapping[str, Any]]:
    """Return the limits that allowed a charge, hold or usage event, with their counts then. Without a lock."""
    return await db.fetch_rows(_FIND_EVALUATED, account_id, cause_id)
