"""Customers of the local Stripe and their saved cards, by the official SDK."""

from typing import Any

import pytest
import stripe

from tests.demo.stripe_server.sdk import event_types, refused, saved_card


@pytest.fixture
async def customer(client: stripe.StripeClient) -> stripe.Customer:
    return await client.v1.customers.create_async(
        {"email": "Ada@shop.example", "name": "Ada", "metadata": {"account_id": "a-1", "plan": "pro"}}
    )


async def test_a_new_customer_has_its_fields(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    assert customer.id.startswith("cus_")
    assert (customer.email, customer.name, customer.balance) == ("Ada@shop.example", "Ada", 0)
    assert customer.invoice_settings is not None
    assert customer.invoice_settings.default_payment_method is None
    assert (await client.v1.customers.retrieve_async(customer.id)).to_dict() == customer.to_dict()
    assert await event_types(client) == ["customer.created"]


async def test_an_update_merges_metadata_and_reports_previous_values(
    client: stripe.StripeClient, customer: stripe.Customer
) -> None:
    changed = await client.v1.customers.update_async(
        customer.id, {"name": "Ada L.", "metadata": {"plan": "", "seat": "2"}}
    )
    assert (changed.name, changed.email) == ("Ada L.", "Ada@shop.example")
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"account_id": "a-1", "seat": "2"}
    event = (await client.v1.events.list_async({"type": "customer.updated"})).data[0]
    assert event.data.previous_attributes is not None
    assert event.data.previous_attributes.to_dict() == {
        "name": "Ada",
        "metadata": {"plan": "pro", "seat": None},
    }
    await client.v1.customers.update_async(customer.id, {"name": "Ada L."})
    assert (await event_types(client)).count("customer.updated") == 1
    emptied = await client.v1.customers.update_async(customer.id, {"metadata": ""})
    assert emptied.metadata is not None
    assert emptied.metadata.to_dict() == {}


async def test_an_address_is_stored_and_emptied(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    address: Any = {"line1": "1 Main St", "city": "Kyiv", "postal_code": "01001", "country": "UA"}
    changed = await client.v1.customers.update_async(customer.id, {"address": address})
    assert changed.address is not None
    assert changed.address.to_dict() == {**address, "line2": None, "state": None}
    emptied = await client.v1.customers.update_async(customer.id, {"address": ""})
    assert emptied.address is None


async def test_a_deleted_customer_keeps_only_its_id(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    card = await saved_card(client, customer.id)
    assert (await client.v1.customers.delete_async(customer.id)).deleted is True
    assert (await client.v1.customers.retrieve_async(customer.id)).deleted is True
    assert (await client.v1.customers.list_async()).data == []
    assert (await client.v1.payment_methods.retrieve_async(card.id)).customer is None
    with refused(stripe.InvalidRequestError, 400, "resource_missing"):
        await client.v1.customers.update_async(customer.id, {"name": "x"})


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("metadata['account_id']:'a-1'", True),
        ('metadata["account_id"]:"a-1"', True),
        ("metadata['account_id']:'a-2'", False),
        ("email:'ada@shop.example'", True),
        ("email~'SHOP'", True),
        ("email:'ada@shop.example' AND metadata['plan']:'free'", False),
        ("email:'ada@shop.example' OR metadata['plan']:'free'", True),
        ("-metadata['plan']:'free'", True),
        ("-metadata['plan']:null", True),
        ("metadata['other']:null", True),
        ("-email:'ada@shop.example'", False),
    ],
)
async def test_customers_are_searched(
    client: stripe.StripeClient, customer: stripe.Customer, query: str, found: bool
) -> None:
    answer = await client.v1.customers.search_async({"query": query})
    assert [one.id for one in answer.data] == ([customer.id] if found else [])


@pytest.mark.parametrize(
    "query", ["", "account_id", "balance:'1'", "email:'a' AND email:'b' OR email:'c'", "email:'a' AND", "email>'a'"]
)
async def test_unreadable_searches_are_refused(client: stripe.StripeClient, query: str) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.customers.search_async({"query": query})


async def test_searches_have_pages(client: stripe.StripeClient) -> None:
    for number in range(3):
        await client.v1.customers.create_async({"name": f"Buyer {number}"})
    first = await client.v1.customers.search_async({"query": "name~'buyer'", "limit": 2})
    names = [one.name async for one in first.auto_paging_iter()]
    assert names == ["Buyer 2", "Buyer 1", "Buyer 0"]


async def test_customers_are_listed_by_their_address(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    await client.v1.customers.create_async({"email": "bob@shop.example"})
    listed = await client.v1.customers.list_async({"email": "Ada@shop.example"})
    assert [one.id for one in listed.data] == [customer.id]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"email": "no address"}, "email_invalid"),
        ({"name": "x" * 513}, None),
        ({"metadata": {"x" * 41: "y"}}, None),
        ({"invoice_settings": {"default_payment_method": "pm_none"}}, "resource_missing"),
        ({"payment_method": "pm_none"}, "resource_missing"),
        ({"address": "1 Main St"}, None),
        ({"address": {"street": "1 Main St"}}, "parameter_unknown"),
    ],
)
async def test_invalid_customers_are_refused(client: stripe.StripeClient, changed: Any, code: str | None) -> None:
    with refused(stripe.InvalidRequestError, 400, code):
        await client.v1.customers.create_async(changed)
    assert (await client.v1.customers.list_async()).data == []


async def test_a_card_is_attached_and_detached(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    card = await saved_card(client, customer.id, "pm_card_mastercard")
    assert card.customer == customer.id
    assert card.card is not None
    assert (card.card.brand, card.card.last4) == ("mastercard", "4444")
    await client.v1.customers.update_async(customer.id, {"invoice_settings": {"default_payment_method": card.id}})
    listed = await client.v1.payment_methods.list_async({"customer": customer.id, "type": "card"})
    assert [one.id for one in listed.data] == [card.id]
    assert [one.id for one in (await client.v1.customers.payment_methods.list_async(customer.id)).data] == [card.id]
    gone = await client.v1.payment_methods.detach_async(card.id)
    assert gone.customer is None
    after = await client.v1.customers.retrieve_async(
        customer.id, {"expand": ["invoice_settings.default_payment_method"]}
    )
    assert after.invoice_settings is not None
    assert after.invoice_settings.default_payment_method is None
    assert await event_types(client) == [
        "customer.created",
        "payment_method.attached",
        "customer.updated",
        "payment_method.detached",
        "customer.updated",
    ]
    for call in (
        client.v1.payment_methods.detach_async(card.id),
        client.v1.payment_methods.attach_async(card.id, {"customer": customer.id}),
    ):
        with refused(stripe.InvalidRequestError, 400):
            await call


async def test_a_card_belongs_to_one_customer(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    other = await client.v1.customers.create_async({})
    card = await saved_card(client, customer.id)
    assert (await client.v1.payment_methods.attach_async(card.id, {"customer": customer.id})).id == card.id
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.payment_methods.attach_async(card.id, {"customer": other.id})
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.customers.update_async(other.id, {"invoice_settings": {"default_payment_method": card.id}})


@pytest.mark.parametrize("sent", [{"token": "tok_visa"}, {"number": "4242424242424242"}])
async def test_a_card_is_created_from_a_token_or_a_number(client: stripe.StripeClient, sent: Any) -> None:
    made = await client.v1.payment_methods.create_async({"type": "card", "card": sent})
    assert made.card is not None
    assert (made.card.last4, made.customer) == ("4242", None)


async def test_a_declined_card_is_not_attached(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    with refused(stripe.CardError, 402, "card_declined"):
        await saved_card(client, customer.id, "pm_card_chargeDeclined")
    assert (await client.v1.payment_methods.list_async({"customer": customer.id})).data == []


async def test_a_cards_metadata_changes(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    card = await saved_card(client, customer.id)
    changed = await client.v1.payment_methods.update_async(
        card.id, {"metadata": {"k": "v"}, "billing_details": {"name": "Ada"}}
    )
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"k": "v"}
    assert changed.billing_details.name == "Ada"
    assert (await event_types(client))[-1] == "payment_method.updated"
