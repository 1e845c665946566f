"""Check before, charge after success, nothing on an exception; caches, policies, keys, tokens."""

import asyncio
import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.issuers import Issuer
from app.main import create_app
from app.settings import Settings
from ciris_billing import (
    AccountClosed,
    AccountSuspended,
    AsyncBillingClient,
    BillingClient,
    IdempotencyKeyReused,
    NoCredit,
    Options,
    Retry,
    ServiceUnavailable,
    User,
    charge_key,
    tool_key,
)
from ciris_billing.providers import SimpleCreditProvider
from tests.conftest import settings_for
from tests.databases import Urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.sdk.conftest import Faulty, Service
from tests.sdk.reactions import Reaction
from tests.servers import serving

OPEN = Options(policy="fail_open", retry=Retry(attempts=1))


async def test_interaction_is_charged_after_it_and_once(client: AsyncBillingClient, who: User) -> None:
    for _ in range(2):
        async with client.gate(who, interaction_id="m-1", metadata={"agent_id": "datum"}) as passage:
            assert passage.status.has_credit
            assert passage.charge is None
    assert passage.charge is not None
    assert passage.charge.replayed
    assert (await client.check_credit(who)).total_uses == 1


def test_blocking_gate(service: Service, who: User) -> None:
    with BillingClient(service.url, service.keys.agent) as client:
        with client.gate(who, interaction_id="m-1") as passage:
            passage.amount_minor = 200
        assert passage.charge is not None
        assert passage.charge.amount_minor == 200
        with pytest.raises(ZeroDivisionError), client.gate(who, interaction_id="m-2"):
            _ = 1 / 0
        assert client.check_credit(who).uses_remaining == 1


async def test_failed_or_cancelled_interaction_costs_nothing(client: AsyncBillingClient, who: User) -> None:
    begun = asyncio.Event()

    async def interaction(fails: bool) -> None:
        async with client.gate(who, interaction_id="m"):
            begun.set()
            if fails:
                raise RuntimeError("the model is down")
            await asyncio.sleep(60)

    with pytest.raises(RuntimeError, match="the model is down"):
        await interaction(fails=True)
    begun.clear()
    task = asyncio.create_task(interaction(fails=False))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.check_credit(who)).total_uses == 0


async def test_gate_is_shut_without_enough_credit(client: AsyncBillingClient, who: User) -> None:
    with pytest.raises(NoCredit) as too_dear:
        async with client.gate(who, interaction_id="m", amount_minor=301):
            raise AssertionError("must not run")
    assert (too_dear.value.balance, too_dear.value.required) == (300, 400)
    await client.charge(who, interaction_id="m", amount_minor=300)
    with pytest.raises(NoCredit) as empty:
        async with client.gate(who, interaction_id="n"):
            raise AssertionError("must not run")
    status = empty.value.credit_status
    assert (status.purchase_price_minor, status.purchase_uses) == (500, 20)
    assert str(empty.value) == "No free uses or credits remaining"


async def test_interaction_that_took_the_last_credit_can_be_repeated(client: AsyncBillingClient, who: User) -> None:
    """Its answer was lost: it is paid for, and only it."""
    async with client.gate(who, interaction_id="last", amount_minor=200) as passage:
        passage.amount_minor = 300
    for amount_minor in (200, 300):
        async with client.gate(who, interaction_id="last", amount_minor=amount_minor) as again:
            again.amount_minor = 300
        assert again.charge is not None
        assert again.charge.replayed
    with pytest.raises(NoCredit):
        async with client.gate(who, interaction_id="another"):
            raise AssertionError("must not run")
    await client.add_credits(who, amount_minor=100, idempotency_key="1")
    assert (await client.check_credit(who)).uses_remaining == 1  # asking has charged nothing
    simple = SimpleCreditProvider(free_uses=1)
    for replayed in (False, True):
        async with simple.gate(who, interaction_id="last") as passage:
            pass
        assert passage.charge is not None
        assert passage.charge.replayed is replayed
    [entry] = (await simple.transactions(who, limit=5, offset=0)).transactions
    assert passage.charge is not None
    assert entry.description == passage.charge.description == "Agent interaction"
    with pytest.raises(NoCredit):
        async with simple.gate(who, interaction_id="another"):
            raise AssertionError("must not run")


@pytest.mark.parametrize("amounts", [{"guessed": 1, "rest": 200}, {"guessed": 300}])
async def test_a_user_cannot_open_the_gate_by_a_charge_under_the_agents_key(
    client: AsyncBillingClient, db: Database, settings: Settings, who: User, amounts: dict[str, int]
) -> None:
    """The user's own token charges what the SDK's key can be guessed to name, until nothing is left."""
    account = await client.get_or_create_account(who)
    billing, person = BillingService(db, Configuration(db, settings)), Actor("user", "a token's digest")
    for name, amount_minor in amounts.items():
        key = charge_key(name)
        await billing.charge(
            ChargeRequest(account.account_id, amount_minor, None, person, datetime.now(UTC), idempotency_key=key)
        )
    with pytest.raises(NoCredit):
        async with client.gate(who, interaction_id="guessed", amount_minor=300):
            raise AssertionError("must not run")
    assert not await client.was_charged(who, interaction_id="guessed")


async def test_a_key_of_another_amount_is_not_paid_for(client: AsyncBillingClient, who: User) -> None:
    """422 is no success: a caller that charges an interaction twice, for two amounts, gets an error."""
    await client.charge(who, interaction_id="m", amount_minor=100)
    with pytest.raises(IdempotencyKeyReused):
        async with client.gate(who, interaction_id="m", amount_minor=200):
            pass


@pytest.mark.parametrize(
    ("status", "reason", "error"), [("suspended", "spam", AccountSuspended), ("closed", None, AccountClosed)]
)
async def test_gate_is_shut_for_accounts_that_may_not_spend(
    client: AsyncBillingClient,
    db: Database,
    settings: Settings,
    who: User,
    status: str,
    reason: str | None,
    error: type[Exception],
) -> None:
    account = await client.get_or_create_account(who)
    await BillingService(db, Configuration(db, settings)).accounts.set_status(
        account.account_id, status, reason, datetime.now(UTC)
    )
    with pytest.raises(error):
        async with client.gate(who, interaction_id="m"):
            raise AssertionError("must not run")


async def test_fail_closed_stops_and_fail_open_goes_on(
    faulty: Faulty, service: Service, who: User, caplog: pytest.LogCaptureFixture
) -> None:
    closed = Options(retry=Retry(attempts=1))
    async with AsyncBillingClient(faulty.url, service.keys.agent, options=closed) as client:
        faulty.reactions = [Reaction(503)]
        with pytest.raises(ServiceUnavailable):
            async with client.gate(who, interaction_id="m"):
                raise AssertionError("must not run")
        faulty.reactions = []
        with pytest.raises(ServiceUnavailable):
            async with client.gate(who, interaction_id="m"):
                faulty.reactions = [Reaction(503)]
    async with AsyncBillingClient(faulty.url, service.keys.agent, options=OPEN) as client:
        faulty.reactions = [Reaction(503), Reaction(None)]
        async with client.gate(who, interaction_id="m", amount_minor=100_000) as passage:
            assert passage.status.assumed
        assert passage.charge is None
    (lost,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert vars(lost)["billing_idempotency_key"] == charge_key("m")
    assert (await _uses(service, who)) == 0


async def _uses(service: Service, who: User) -> int:
    async with AsyncBillingClient(service.url, service.keys.agent) as client:
        return (await client.check_credit(who)).total_uses


async def test_fail_open_forgives_no_refusal(service: Service, who: User) -> None:
    async with AsyncBillingClient(service.url, service.keys.agent, options=OPEN) as client:
        await client.charge(who, interaction_id="m", amount_minor=300)
        with pytest.raises(NoCredit):
            async with client.gate(who, interaction_id="n"):
                raise AssertionError("must not run")


async def test_check_cache_forgets_what_moves_credits(faulty: Faulty, service: Service, who: User) -> None:
    now = 0.0
    options = Options(check_cache_s=5, clock=lambda: now)
    async with AsyncBillingClient(faulty.url, service.keys.agent, options=options) as client:
        assert await client.check_credit(who) is await client.check_credit(who)
        assert len(faulty.requests) == 1
        await client.check_credit(dataclasses.replace(who, display_name="Ada"))  # the name has to reach the service
        await client.check_credit(dataclasses.replace(who, external_id=f"other-{uuid.uuid4()}"))
        assert len(faulty.requests) == 3
        await client.charge(who, interaction_id="1", amount_minor=200)
        assert (await client.check_credit(who)).uses_remaining == 1
        now = 5.0
        await client.check_credit(who)
        assert len(faulty.requests) == 6
        await client.charge(who, interaction_id="2")
        for _ in range(2):  # a refusal is not remembered: the user may have bought
            assert not (await client.check_credit(who)).has_credit
        assert len(faulty.requests) == 9


class Overtaken(httpx.AsyncHTTPTransport):
    """Keeps the answer of a check back until something else has been answered."""

    def __init__(self) -> None:
        super().__init__()
        self.checked, self.others = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        await answer.aread()
        if request.url.path.endswith("/check"):
            self.checked.set()
            await self.others.wait()
        else:
            self.others.set()
        return answer


async def test_check_that_a_charge_has_overtaken_is_not_remembered(service: Service, who: User) -> None:
    way = Overtaken()
    async with httpx.AsyncClient(transport=way) as http:
        client = AsyncBillingClient(
            service.url, service.keys.agent, options=Options(check_cache_s=60), http_client=http
        )
        checking = asyncio.create_task(client.check_credit(who))
        await way.checked.wait()
        await client.charge(who, interaction_id="1", amount_minor=300)
        assert (await checking).has_credit
        assert not (await client.check_credit(who)).has_credit


def test_keys_come_from_names_alone() -> None:
    assert charge_key("m-1") == charge_key("m-1") == "charge:m-1"
    assert tool_key("web_search", "c") == "tool:web_search:c"
    long = [charge_key("x" * 300), charge_key("x" * 301), charge_key("\0"), charge_key("é" * 300 + "\ud800")]
    long.append(charge_key("\ud800"))
    assert len(set(long)) == 5
    assert all(len(key) <= 255 and key.startswith("sha256:") for key in long)


@pytest.fixture(scope="module")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.mark.parametrize("awaited", [True, False])
async def test_user_token_says_who_it_is(database: Urls, oidc: RunningOIDC, awaited: bool) -> None:
    issuer = Issuer.model_validate(
        {
            "issuer": oidc.issuer,
            "jwks_url": oidc.jwks_url,
            "audiences": [WEB.client_id],
            "provider": "oauth:local",
        }
    )
    minted = 0

    def token() -> str:
        nonlocal minted
        minted += 1
        return oidc.mint(sub=f"user-{awaited}", jti=uuid.uuid4().hex)

    async def token_later() -> str:
        return await asyncio.to_thread(token)

    with serving(create_app(settings_for(database, issuers=[issuer]))) as url:
        source = token_later if awaited else token
        async with AsyncBillingClient(url, token=source, options=Options(check_cache_s=60)) as client:
            charge = await client.charge(interaction_id="1")
            assert (await client.charge(interaction_id="1")).charge_id == charge.charge_id
            for _ in range(2):
                assert (await client.check_credit()).uses_remaining == 2
            assert [entry.transaction_id async for entry in client.transactions()] == [charge.charge_id]
    assert minted == 5
