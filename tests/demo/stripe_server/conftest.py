"""A local Stripe of each test's own."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import stripe

from tests.demo.stripe_receiver import Receiver, running_receiver
from tests.demo.stripe_server.sdk import TIMEOUT_S, sdk
from tests.servers import LocalStripe, running_stripe


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def local(receiver: Receiver) -> Iterator[LocalStripe]:
    """A local Stripe of this test's own, whose webhooks go to the receiver."""
    with running_stripe(receiver.url, retry_schedule_s=(0.05, 0.05, 0.1)) as running:
        receiver.secret = running.webhook_secret
        yield running


@pytest.fixture(scope="module")
def shared_local() -> Iterator[LocalStripe]:
    """A local Stripe of a module whose tests leave nothing behind that another one counts."""
    with running_stripe() as running:
        yield running


@pytest.fixture
async def client(local: LocalStripe) -> AsyncIterator[stripe.StripeClient]:
    async with sdk(local.url, local.secret_key) as made:
        yield made


@pytest.fixture
async def control(local: LocalStripe) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{local.url}/_control", timeout=TIMEOUT_S, trust_env=False) as made:
        yield made
