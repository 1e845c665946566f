"""The services of refills, as the API and the worker make them."""

from typing import NamedTuple

from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import VersionMark
from app.payments.customers import Customers
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_saved_cards import StripeSavedCards
from app.refills.cards import CardService
from app.refills.paying import RefillPayments
from app.refills.service import RefillService


class RefillServices(NamedTuple):
    refills: RefillService
    cards: CardService
    payments: RefillPayments


def refill_services(
    db: Database, configuration: Configuration, mark: VersionMark, gateway: StripeGateway
) -> RefillServices:
    settings, stripe = configuration.settings, StripeSavedCards(gateway)
    refills = RefillService(db, configuration, mark, gateway.provider, settings.time_zone)
    cards = CardService(db, configuration, refills, Customers(db, gateway), stripe, gateway.provider)
    return RefillServices(refills, cards, RefillPayments(db, refills, stripe, settings))
