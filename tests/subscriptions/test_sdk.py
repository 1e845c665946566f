"""Plans, money, refills, cards and one-time grants through both clients of the SDK, at the service that sells them."""

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from ciris_billing import AsyncBillingClient, BillingClient, InvalidRequest, NotFound, Options, PermissionDenied, User
from tests.conftest import make_usage_key
from tests.demo.oidc_server import SPA, WEB, RunningOIDC
from tests.live.reading import until
from tests.metering.conftest import PROVIDER
from tests.sdk.conftest import InThreads
from tests.subscriptions.store import Buyer, Store

PATIENT = Options(timeout_s=60, deadline_s=60)
OpenSDK = Callable[..., Any]


@pytest.fixture(params=["blocking", "awaited"])
async def open_sdk(request: pytest.FixtureRequest, store: Store) -> AsyncIterator[OpenSDK]:
    """Open each client in turn, with an API key or with a user's token."""
    async with AsyncExitStack() as stack:

        async def open_sdk(api_key: str | None = None, **token: Any) -> Any:
            if request.param == "blocking":
                return InThreads(stack.enter_context(BillingClient(store.desk.url, api_key, options=PATIENT, **token)))
            mint = token.pop("token", None)

            async def minted() -> str:
                return str(mint())

            with_token: dict[str, Any] = {} if mint is None else {"token": minted}
            return await stack.enter_async_context(
                AsyncBillingClient(store.desk.url, api_key, options=PATIENT, **with_token)
            )

        yield open_sdk


@pytest.fixture
def token_of(store: Store, oidc: RunningOIDC, buyer: Buyer) -> Callable[[str], Callable[[], str]]:
    """The function that returns the buyer's token for an audience."""

    def token_of(audience: str) -> Callable[[], str]:
        def mint() -> str:
            now_s = int(store.now.timestamp())
            times = {"iat": now_s, "exp": now_s + 600, "auth_time": now_s}
            return oidc.mint(sub=buyer.user_id, jti=uuid.uuid4().hex, aud=audience, **times)

        return mint

    return token_of


@pytest.fixture
async def person(open_sdk: OpenSDK, token_of: Callable[[str], Callable[[], str]]) -> Any:
    return await open_sdk(token=token_of(SPA.client_id))


@pytest.fixture
async def agent(open_sdk: OpenSDK, token_of: Callable[[str], Callable[[], str]]) -> Any:
    """A client with a token that the user's agents have, too."""
    return await open_sdk(token=token_of(WEB.client_id))


async def test_plan_from_its_list_to_its_end(person: Any, agent: Any, store: Store) -> None:
    plans = {plan.plan: plan for plan in await agent.plans()}
    assert [(price.interval, price.amount_minor) for price in plans["standard"].prices] == [
        ("month", 2000),
        ("year", 20_000),
    ]
    assert [grant.amount for grant in plans["standard"].grants] == [Decimal(25)]
    mine = await agent.subscription()
    assert (mine.plan, mine.is_subscribed, mine.status) == ("free", False, None)
    page = await agent.subscribe("standard")
    assert await agent.subscribe("standard") == page
    await store.pay({"session_id": page.session_id})
    mine = await agent.subscription()
    assert (mine.plan, mine.is_subscribed, mine.monthly_credits, mine.interval) == ("standard", True, 2500, "month")
    with pytest.raises(InvalidRequest) as refused:
        await agent.subscribe("pro")
    assert (refused.value.status, refused.value.code) == (409, "already_subscribed")
    preview = await agent.change_subscription("pro", preview=True)
    assert (preview.effect, preview.currency, preview.plan) == ("now", "USD", "standard")
    with pytest.raises(PermissionDenied) as denied:
        await agent.change_subscription("pro", prorated_at=preview.prorated_at)
    assert denied.value.code == "person_required"
    changed = await person.change_subscription("pro", prorated_at=preview.prorated_at)
    assert (changed.plan, changed.effect) == ("pro", None)
    canceled = await agent.cancel_subscription()
    assert canceled.cancel_at == canceled.current_period_end is not None
    assert (await agent.resume_subscription()).cancel_at is None
    portal = await agent.subscription_portal(return_url="https://app.example/web/account")
    assert urlsplit(portal.url).netloc in store.local.url
    with pytest.raises(InvalidRequest) as refused:
        await agent.change_subscription("unknown", preview=True)
    assert (refused.value.status, refused.value.code) == (422, "unknown_plan")


async def test_money_and_its_payments(agent: Any, store: Store, buyer: Buyer) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await agent.buy_money(amount_minor=1)
    assert refused.value.status == 400
    page = await agent.buy_money(amount_usd=Decimal("25.50"), idempotency_key="first")
    assert await agent.buy_money(amount_usd=25.5, idempotency_key="first") == page
    await agent.buy_money(amount_minor=500)
    await store.pay({"session_id": page.session_id})
    assert (await buyer.balance())[1] == 2550
    newest = await agent.payment_page(limit=1)
    assert [(one.amount_cents, one.status) for one in newest.payments] == [(500, "requires_payment_method")]
    older = await agent.payment_page(limit=1, cursor=newest.next_cursor)
    [payment] = older.payments
    assert (payment.status, payment.bought, payment.credits) == ("succeeded", Decimal("25.5"), None)
    assert not older.has_more


async def test_refills_and_cards(person: Any, agent: Any, store: Store) -> None:
    assert (await agent.auto_refill()).state == "off"
    for call in (agent.set_auto_refill(enabled=True), agent.save_card(consent="yes"), agent.remove_card(uuid.uuid4())):
        with pytest.raises(PermissionDenied) as denied:
            await call
        assert denied.value.code == "person_required"
    refill = await person.set_auto_refill(enabled=True, trigger_below_cents=700, refill_amount_cents=2000)
    assert (refill.state, refill.trigger_below_cents, refill.refill_amount_cents) == ("waiting_for_card", 700, 2000)
    with pytest.raises(InvalidRequest) as refused:
        await person.set_auto_refill(enabled=True, refill_amount_cents=1)
    assert (refused.value.status, refused.value.code) == (400, "refill_out_of_bounds")
    with pytest.raises(InvalidRequest) as refused:
        await person.save_card(consent="another text than the one shown")
    assert refused.value.code == "consent_required"
    page = await person.save_card(consent=refill.consent_text)
    await store.control(f"checkout_sessions/{urlsplit(page.url).path.split('/')[-1]}/pay", method="pm_card_visa")
    await store.delivered()
    [card] = await agent.cards()
    assert (card.brand, card.last4, card.is_primary) == ("visa", "4242", True)
    assert (await person.make_card_primary(card.card_id)) == card
    assert (await agent.auto_refill()).card == card
    assert await person.remove_card(card.card_id) is True
    assert await agent.cards() == []
    with pytest.raises(NotFound):
        await person.make_card_primary(card.card_id)


@pytest.fixture
async def granting(store: Store) -> str:
    """A key that gives money, once the service has read the amounts of one-time grants."""
    amounts = {"signup": "5.00", "daily": "0.50", "referral_inviter": "2.00", "referral_invitee": "3.00"}
    document = {"currency": "USD", **{name: {"amount": amount} for name, amount in amounts.items()}}
    await store.rows(
        "INSERT INTO configuration_versions (section, version, document, reason, changed_by, admin_id, created_at)"
        " SELECT 'one_time_grants', 1, $1, 'tests', email, admin_id, now() FROM admin_users LIMIT 1"
        " ON CONFLICT DO NOTHING",
        json.dumps(document),
    )
    key = await make_usage_key(store.desk.db, UsageTerms(PROVIDER), "live", Permission.MONEY_CREDIT)
    async with AsyncBillingClient(store.desk.url, key, options=PATIENT) as client:

        async def is_read() -> bool:
            return (await client.daily_grant(user_id=str(uuid.uuid4()))).granted

        await until(is_read)
    return key


async def test_grants_are_given_once(open_sdk: OpenSDK, granting: str) -> None:
    giver = await open_sdk(granting)
    user_id, inviter = str(uuid.uuid4()), str(uuid.uuid4())
    given = await giver.signup_grant(user_id=user_id, referred_by=inviter)
    assert (given.granted, given.amount, given.balance_cents) == (True, Decimal(5), 500)
    again = await giver.signup_grant(user_id=user_id)
    assert (again.granted, again.reason, again.amount) == (False, "already_granted", None)
    daily = [await giver.daily_grant(user_id=user_id) for _ in range(2)]
    assert [(one.granted, one.reason, one.balance) for one in daily] == [
        (True, None, Decimal("5.5")),
        (False, "already_granted_today", Decimal("5.5")),
    ]
    referred = await giver.referral_grant(inviter=inviter, invitee=user_id)
    assert (referred.granted, referred.reason, referred.invitee_balance) == (False, "pending", Decimal("5.5"))
    by_identity = await giver.referral_grant(inviter=User(PROVIDER, inviter), invitee=User(PROVIDER, user_id))
    assert by_identity == referred
    with pytest.raises(InvalidRequest) as refused:
        await giver.referral_grant(inviter=user_id, invitee=user_id)
    assert (refused.value.status, refused.value.code) == (400, "same_user")
