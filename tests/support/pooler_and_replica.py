"""The components between a deployment's API and its primary: PgBouncer, and a streaming replica for reports."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from app.db import Database
from app.db.schema_check import bound_role
from app.demo.postgres import HOST, Cluster
from tests.books import connected
from tests.chaos.proxy import PostgresProxy, Proxy
from tests.clusters.servers import Machine, Server, make_machine
from tests.databases import Urls
from tests.pooler import Pooler, running_pooler, statement_cache_size

POOL_SIZE = 8
MAX_LAG_S = 1.5
DATABASE_TIMEOUT_S = 3.0


@dataclass
class PoolerAndReplica:
    """PgBouncer and a replica, with proxies: API to PgBouncer, API to replica, and replica to primary."""

    pooler: Pooler
    pooler_way: PostgresProxy
    replica_way: PostgresProxy
    replication_way: Proxy

    def environment(self, urls: Urls, direct: str) -> dict[str, str]:
        """Settings of an API process that uses them. `direct`: the primary's address."""
        prepared = statement_cache_size()
        return {
            "DATABASE_URL": self.pooler_way.url.get_secret_value(),
            "DATABASE_DIRECT_URL": direct,
            "DATABASE_STATEMENT_CACHE_SIZE": str(prepared),
            "DATABASE_READ_URL": self.replica_way.url_of(SecretStr(urls.service)).get_secret_value(),
            "DATABASE_READ_MAX_LAG_S": str(MAX_LAG_S),
        }

    def heal(self) -> None:
        for way in (self.pooler_way, self.replica_way, self.replication_way):
            way.heal()


@contextlib.asynccontextmanager
async def running_pooler_and_replica(
    cluster: Cluster, urls: Urls, primary: PostgresProxy
) -> AsyncIterator[PoolerAndReplica]:
    """`primary`: the way to it, which the pooler goes too."""
    direct = Database(SecretStr(urls.service), pool_size=3)
    await bound_role(direct, DATABASE_TIMEOUT_S)  # as `migrate` does
    await direct.close()
    async with contextlib.AsyncExitStack() as stack:

        async def begin(way: Proxy) -> None:
            await way.start()
            stack.push_async_callback(way.stop)

        behind = replace(urls, service=primary.url_of(SecretStr(urls.service)).get_secret_value())
        pooler = await asyncio.to_thread(stack.enter_context, running_pooler(behind, POOL_SIZE))
        pooler_way = PostgresProxy(SecretStr(pooler.url))
        await begin(pooler_way)
        replication_way = Proxy(cluster.host, cluster.port)
        await begin(replication_way)
        replica = await _replica(stack, urls, replication_way)
        replica_way = PostgresProxy(SecretStr(f"postgresql://nobody@{HOST}:{replica.port}/"))
        await begin(replica_way)
        yield PoolerAndReplica(pooler, pooler_way, replica_way, replication_way)


async def _replica(stack: contextlib.AsyncExitStack, urls: Urls, way: Proxy) -> Server:
    """Made and run by docker/postgres/start-replica.sh, which finds its primary by the `way`."""
    folder = Path(tempfile.mkdtemp(prefix="ciris-billing-replica-"))
    stack.callback(shutil.rmtree, folder)
    machine: Machine = await asyncio.to_thread(make_machine, folder)
    password = machine.password("backup").replace("'", "''")
    async with connected(urls) as connection:
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"CREATE ROLE billing_backup LOGIN REPLICATION PASSWORD '{password}'")
        await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO billing_backup')
    data = machine.new_folder("replica") / "data"
    command = [str(machine.script("postgres/start-replica.sh"))]
    server = Server(machine, data, command, PGPORT=str(way.port), PGDATA=str(data), PGDATABASE=database)
    stack.callback(server.stop)
    await asyncio.to_thread(server.start)
    return server
