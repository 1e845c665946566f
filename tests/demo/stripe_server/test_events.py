"""The local Stripe's event log and its lists, as the official SDK sees them."""

import stripe

from tests.demo.stripe_server.sdk import PAID, create, paid, refused


async def test_the_event_log_tells_what_was_so_at_the_time(client: stripe.StripeClient) -> None:
    intent = await paid(client)
    events = (await client.v1.events.list_async({"limit": 100})).data
    assert [event.type for event in events] == PAID[::-1]
    status_by_type = {event.type: event.data.object["status"] for event in events}
    assert status_by_type["payment_intent.created"] == "requires_payment_method"
    assert status_by_type["payment_intent.succeeded"] == "succeeded"
    assert (await client.v1.events.retrieve_async(events[0].id)).data.object["id"] == intent.id
    chosen = await client.v1.events.list_async({"types": [PAID[0], PAID[1]]})
    assert [event.type for event in chosen.data] == [PAID[1], PAID[0]]
    first = events[-1].created
    assert len((await client.v1.events.list_async({"created": {"gte": first}})).data) == 3
    assert (await client.v1.events.list_async({"created": {"gte": events[0].created + 1}})).data == []
    assert (await client.v1.events.list_async({"created": {"lte": first - 1}})).data == []
    assert (await client.v1.events.list_async({"created": {"gt": events[0].created}})).data == []
    assert (await client.v1.events.list_async({"created": {"lt": first}})).data == []
    assert (await client.v1.events.list_async({"created": first - 1})).data == []


async def test_lists_page_by_cursor(client: stripe.StripeClient) -> None:
    ids = [(await create(client)).id for _ in range(7)][::-1]
    service = client.v1.payment_intents
    page = await service.list_async({"limit": 3})
    assert ([intent.id for intent in page.data], page.has_more) == (ids[:3], True)
    last = await service.list_async({"limit": 3, "starting_after": ids[3]})
    assert ([intent.id for intent in last.data], last.has_more) == (ids[4:], False)
    before = await service.list_async({"limit": 2, "ending_before": ids[4]})
    assert ([intent.id for intent in before.data], before.has_more) == (ids[2:4], True)
    assert [intent.id async for intent in before.auto_paging_iter()] == ids[:4][::-1]
    first = await service.list_async({"limit": 4, "ending_before": ids[4]})
    assert ([intent.id for intent in first.data], first.has_more) == (ids[:4], False)
    assert [intent.id async for intent in page.auto_paging_iter()] == ids
    with refused(stripe.InvalidRequestError, 400):
        await service.list_async({"limit": 101})
