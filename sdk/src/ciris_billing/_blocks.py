"""Blocks of both clients whose end settles a hold, or closes a run."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from ciris_billing._transport import AsyncTransport, Block, BlockingTransport
from ciris_billing.gate import HoldingGate, Passage
from ciris_billing.holding import AsyncHolding, HeldWork, Holding


class BlockingBlocks(BlockingTransport):
    """The blocking client's blocks."""

    @contextmanager
    def _settled(self, work: Block) -> Iterator[None]:
        """Run a block, and end its work however the block ends."""
        try:
            yield
        except BaseException as failure:
            self._settle(work, failure)
            raise
        self._settle(work, None)

    @contextmanager
    def _on_hold(self, work: HeldWork) -> Iterator[Holding]:
        """Run a block on a hold, and settle what the block did not settle."""
        self._run(work.enter())
        with self._settled(work):
            yield Holding(work, self)

    @contextmanager
    def _through(self, gate: HoldingGate) -> Iterator[Passage]:
        """Run a block in a gate that holds."""
        passage = self._run(gate.enter())
        with self._settled(gate):
            yield passage
        gate.require_paid()


class AsyncBlocks(AsyncTransport):
    """The async client's blocks."""

    @asynccontextmanager
    async def _settled(self, work: Block) -> AsyncIterator[None]:
        """Run a block, and end its work however the block ends."""
        try:
            yield
        except BaseException as failure:
            await self._settle(work, failure)
            raise
        await self._settle(work, None)

    @asynccontextmanager
    async def _on_hold(self, work: HeldWork) -> AsyncIterator[AsyncHolding]:
        """Run a block on a hold, and settle what the block did not settle."""
        await self._run(work.enter())
        async with self._settled(work):
            yield AsyncHolding(work, self)

    @asynccontextmanager
    async def _through(self, gate: HoldingGate) -> AsyncIterator[Passage]:
        """Run a block in a gate that holds."""
        passage = await self._run(gate.enter())
        async with self._settled(gate):
            yield passage
        gate.require_paid()
