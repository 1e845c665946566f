"""Erasure of a person's cards, and of the address in their consents. The text and the time of a consent stay.

The provider's ids of cards stay, as those of payments do: only the provider can resolve them, and the worker names the
cards by them to remove them there.
"""

from app.accounts.erasure import Texts

TEXTS = (
    Texts("card_consents", "consent_id", {"address": "NULL"}),
    Texts("card_setups", "setup_id", {"success_url": "NULL", "cancel_url": "NULL", "status": "'ended'"}),
    Texts(
        "saved_cards",
        "card_id",
        {
            "brand": "NULL",
            "last4": "NULL",
            "expiry_month": "NULL",
            "expiry_year": "NULL",
            "is_primary": "false",
            "removed_at": "coalesce(removed_at, now())",
        },
    ),
    Texts("refills", "purchase_id", {"action_url": "NULL"}),
)
