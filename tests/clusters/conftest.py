"""One primary for each worker that runs tests of this folder."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.clusters.servers import DATABASE, Primary, running_primary
from tests.databases import Urls, alembic


@pytest.fixture(scope="session")
def primary() -> Iterator[Primary]:
    folder = Path(tempfile.mkdtemp(prefix="billing-clusters-"))
    try:
        with running_primary(folder) as primary:
            alembic(primary.urls(), "upgrade", "head")
            yield primary
    finally:
        shutil.rmtree(folder)


@pytest.fixture
async def books(primary: Primary) -> AsyncIterator[Urls]:
    """A migrated database of the primary's own, for one test."""
    name = f"billing_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(primary.urls("postgres").superuser)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE} OWNER billing_owner")
        yield primary.urls(name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
