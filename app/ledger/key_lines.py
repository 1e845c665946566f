"""Key lines: an API key with all keys that it was rotated from and to. A bound of a key is one of its line.

A rotation makes a new key with a new id. Spending is stored with the id of the key that spent, and is compared with the
ids of a whole line, so that neither a rotation nor a settlement by the other key of a grace period escapes a bound.
"""

from collections.abc import Sequence

from app.db.sql import sql
from app.db.statements import Tx, fetch

KEYS_OF_LINE = """
    ARRAY(WITH RECURSIVE earlier AS (
               SELECT key_id FROM api_keys WHERE key_id = {key}
                UNION ALL
               SELECT k.key_id FROM earlier e,
                      LATERAL (SELECT key_id FROM api_keys WHERE rotated_to = e.key_id LIMIT 1) AS k),
          later AS (
               SELECT k.rotated_to AS key_id FROM (SELECT rotated_to FROM api_keys WHERE key_id = {key} LIMIT 1) AS k
                WHERE k.rotated_to IS NOT NULL
                UNION ALL
               SELECT k.rotated_to FROM later l,
                      LATERAL (SELECT rotated_to FROM api_keys WHERE key_id = l.key_id LIMIT 1) AS k
                WHERE k.rotated_to IS NOT NULL)
          SELECT key_id FROM earlier UNION ALL SELECT key_id FROM later)
    """
"""The ids of the line of a key, an SQL expression. Empty for an unknown key.

LIMIT keeps each step a look-up of one key: a condition on `rotated_to` would choose its index, without a key.
"""
_FIND_KEYS = sql("SELECT {keys} AS keys", keys=sql(KEYS_OF_LINE, key="$1"))


async def find_keys_of_line(tx: Tx, key_id: str) -> Sequence[str]:
    """Return the ids of the line of a key. Empty for an unknown key."""
    [row] = await fetch(tx, _FIND_KEYS, key_id)
    keys: Sequence[str] = row["keys"]
    return keys
