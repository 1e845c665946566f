"""Customers at Stripe: created once, and deleted with the person. Errors and limits are those of StripeGateway."""

from uuid import UUID

from app.auth.caller import Environment
from app.payments.errors import PaymentNotFound, PaymentProviderRejects
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_objects import stripe_id


class StripeCustomers:
    """The calls to Stripe about customers."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway

    async def create(self, environment: Environment, account_id: UUID, attempt: int) -> str:
        """Create the account's customer. For the same attempt within a day, Stripe repeats its answer.

        The request names the account only. Stripe compares repeats, so it has nothing that can change: Stripe's pages
        ask the buyer for the e-mail address and store it.
        """
        client = await self._gateway.client_of(environment)
        created = client.v1.customers.create_async(
            {"metadata": {"account_id": str(account_id)}},
            {"idempotency_key": f"customer:{account_id}:{attempt}"},
        )
        return stripe_id((await self._gateway.answer(created, operation="create")).id)

    async def exists(self, environment: Environment, customer_id: str) -> bool:
        """Return whether Stripe has the customer: not one that was deleted, nor one of another Stripe account."""
        client = await self._gateway.client_of(environment)
        try:
            found = await self._gateway.answer(client.v1.customers.retrieve_async(customer_id))
        except PaymentNotFound:
            return False
        return not getattr(found, "deleted", False)

    async def delete(self, environment: Environment, customer_id: str) -> None:
        """Delete the customer with its saved cards. Stripe cancels its subscriptions at once. Idempotent."""
        client = await self._gateway.client_of(environment)
        try:
            await self._gateway.answer(client.v1.customers.delete_async(customer_id), operation=None)
        except PaymentNotFound:
            return
        except PaymentProviderRejects as error:
            if error.reason != "resource_missing":
                raise
