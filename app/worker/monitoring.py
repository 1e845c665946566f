"""Worker monitoring: a separate port for `/metrics` and `/health`, because the worker serves no requests (ADR 13)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import uvicorn
from fastapi import FastAPI

import app.health.router
from app.db import Database
from app.ending import end
from app.errors import install_error_handlers
from app.health.gauges import keep_measuring_books, measure_connections
from app.settings import Settings

BOOKS_STATEMENT_TIMEOUT_S = 60.0


class _Server(uvicorn.Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # typed as a generator there
        """Install no handlers: the worker handles signals."""
        return nullcontext()


class Monitor:
    """The worker's current databases, whose connections are counted; they are reopened after an outage."""

    def __init__(self) -> None:
        self.databases: tuple[Database, ...] = ()

    def measure_process(self) -> None:
        measure_connections(*self.databases)


@asynccontextmanager
async def monitoring(settings: Settings) -> AsyncIterator[Monitor]:
    """While the block runs, measure the books each minute and serve WORKER_METRICS_PORT, if it is set."""
    monitor = Monitor()
    if settings.worker_metrics_port is None:
        yield monitor
        return
    db = Database(settings.direct_url, pool_size=3, timeout_s=settings.database_timeout_s)
    reports = Database(settings.direct_url, pool_size=3, timeout_s=BOOKS_STATEMENT_TIMEOUT_S)
    api = FastAPI(openapi_url=None)
    api.state.settings, api.state.db, api.state.measure_process = settings, db, monitor.measure_process
    api.include_router(app.health.router.router)
    install_error_handlers(api)
    config = uvicorn.Config(
        api,
        host=settings.host,
        port=settings.worker_metrics_port,
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = _Server(config)
    tasks = [asyncio.create_task(server.serve()), asyncio.create_task(keep_measuring_books(reports))]
    try:
        yield monitor
    finally:
        server.should_exit = True
        await end(tasks[1])
        await asyncio.gather(tasks[0], return_exceptions=True)
        await reports.close()
        await db.close()
