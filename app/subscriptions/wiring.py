"""The objects of subscriptions, as a process of the API or the worker has them."""

from app.accounts.service import AccountService
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import VersionMark
from app.limits.service import LimitService
from app.payments.stripe_gateway import StripeGateway
from app.subscriptions.service import SubscriptionService
from app.subscriptions.settlement import Settlement
from app.wallet.service import WalletService


def subscription_services(
    db: Database, configuration: Configuration, accounts: AccountService, gateway: StripeGateway
) -> tuple[Settlement, SubscriptionService]:
    """Return the books of subscriptions, which payments hands facts to, and the service."""
    mark = VersionMark(db)
    wallet, limits = WalletService(db, accounts, mark), LimitService(db, accounts, mark)
    settlement = Settlement(configuration, accounts, wallet, limits, mark)
    return settlement, SubscriptionService(db, configuration, accounts, gateway, settlement)
