"""Timestamps between PostgreSQL and Python: the bounds for callers' values, and the decoding of stored ones.

PostgreSQL stores times from 4713 BC to 294276 AD and two infinities; Python's end at the year 9999. The driver returns
an infinity as a time without a zone, which cannot be compared with others, and fails on a row with any other such time.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncpg

FIRST_YEAR, LAST_YEAR = 2000, 2200
EARLIEST = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
LATEST = datetime(LAST_YEAR, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
OUT_OF_BOUNDS = f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}"

LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)
FAR_AHEAD = datetime(9999, 12, 30, tzinfo=UTC)
"""Stored times beyond these two are read as these two. Every time zone can show them."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = (LONG_AGO - _EPOCH) // _MICROSECOND, (FAR_AHEAD - _EPOCH) // _MICROSECOND


def bounded(moment: datetime) -> datetime:
    """Return the moment in UTC. Raise ValueError if it is outside of the years that callers may send."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(OUT_OF_BOUNDS) from None
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(OUT_OF_BOUNDS)
    return moment


def _encode(moment: datetime) -> tuple[int]:
    return ((moment - _EPOCH) // _MICROSECOND,)


def _decode(microseconds: tuple[int]) -> datetime:
    (since_epoch,) = microseconds
    if _FIRST <= since_epoch <= _LAST:
        return _EPOCH + timedelta(0, 0, since_epoch)
    return LONG_AGO if since_epoch < 0 else FAR_AHEAD


async def read_every_timestamp(connection: "asyncpg.Connection[Any]") -> None:
    """Make the connection read any stored time as one with a zone, between LONG_AGO and FAR_AHEAD."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=_encode, decoder=_decode
    )
