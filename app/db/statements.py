"""Statements of the hot path: SQL in the driver's form, for both kinds of transactions.

A batch of charges runs them straight on the driver. A webhook or an admin's correction runs the same statements inside
a transaction of SQLAlchemy. JSON values are sent as text and returned as values in both.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, TypeAlias, cast

from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import DeclarativeBase

from app.db.driver_pool import BatchTransaction, Row
from app.db.point_reads import PointRead
from app.db.sql import sql

Tx: TypeAlias = AsyncConnection | BatchTransaction


async def fetch(tx: Tx, sql: str, *values: object) -> Sequence[Row]:
    """Return the rows of a statement in the driver's form (placeholders `$1`, `$2`…); none if it returns no rows."""
    if isinstance(tx, BatchTransaction):
        return await tx.fetch(sql, *values)
    result = await tx.exec_driver_sql(sql, values)
    return cast(Sequence[Row], result.mappings().all()) if result.returns_rows else []


async def write(tx: Tx, sql: str, *values: object) -> None:
    """Execute a statement without rows, in the driver's form. A batch executes its writes together, before COMMIT."""
    if isinstance(tx, BatchTransaction):
        tx.write(sql, *values)
    else:
        await tx.exec_driver_sql(sql, values)


async def flush(tx: Tx) -> None:
    """Execute the writes so far, so that later reads of the transaction see them. Else a batch's reads do not."""
    if isinstance(tx, BatchTransaction):
        await tx.flush()


async def find_many(tx: Tx, read: PointRead, keys: Sequence[tuple[object, ...]]) -> Sequence[Row]:
    """Return the rows of some keys, read in a transaction. A row's `ordinal` is the number of its key, from 1."""
    return await fetch(tx, read.sql, *map(list, zip(*keys, strict=True))) if keys else []


@cache
def arrays_of(model: type[DeclarativeBase], names: tuple[str, ...]) -> str:
    """Return `$1::uuid[], $2::text[]…`: an array of values for each of the model's columns."""
    return ", ".join(f"{value}[]" for value in _values_of(model, names))


def _values_of(model: type[DeclarativeBase], names: tuple[str, ...]) -> list[str]:
    """Return `$1::uuid`, `$2::text`…: a value for each of the model's columns."""
    table = model.__table__
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    types = (table.c[name].type.compile(dialect) for name in names)
    return [f"${number}::{type_}" for number, type_ in enumerate(types, 1)]


@cache
def rows_of(model: type[DeclarativeBase], names: tuple[str, ...], *, is_single: bool) -> str:
    """Return the rows that a write takes from its values (`values_of`), as an item of FROM with the name `n`.

    Many rows come from one array a column. PostgreSQL keeps a temporary store for each array, and so takes twice as
    long to write one row: a single row comes from single values.
    """
    rows = f"(VALUES ({', '.join(_values_of(model, names))}))" if is_single else f"unnest({arrays_of(model, names)})"
    return f"{rows} AS n ({', '.join(names)})"


def values_of(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[Any]:
    """Return the values of a write: of one row its values, of many rows one list a column. See `rows_of`."""
    if len(rows) == 1:
        [row] = rows
        return [row[name] for name in names]
    return list(zip(*map(itemgetter(*names), rows), strict=True))


@cache
def _insert(model: type[DeclarativeBase], names: tuple[str, ...], *, is_single: bool) -> str:
    return sql(
        "INSERT INTO {table} ({names}) SELECT * FROM {rows}",
        table=model.__tablename__,
        names=", ".join(names),
        rows=rows_of(model, names, is_single=is_single),
    )


def with_optional(rows: Sequence[Mapping[str, Any]], **columns: Any) -> Sequence[Mapping[str, Any]]:
    """Return rows with the same columns: with all optional ones if a row has one of them, else with none.

    `columns` has the values of the rows that lack them. So a statement names optional columns only if it needs them.
    """
    if any(name in row for row in rows for name in columns):
        return [{**columns, **row} for row in rows]
    return rows


async def insert_rows(tx: Tx, model: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert any number of rows (column name -> value, the same columns in each) by one statement."""
    names = tuple(rows[0])
    await write(tx, _insert(model, names, is_single=len(rows) == 1), *values_of(rows, names))
