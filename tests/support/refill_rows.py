"""Rows of refills and saved cards that keep every rule of the schema, and violations of each constraint."""

import uuid

from tests.support.row_values import ACCOUNT, CARD, CONSENT, NOBODY, NOW, Row

REFILLED, OTHER_PURCHASE = uuid.UUID(int=9), uuid.UUID(int=56)
"""Purchases."""
REFILL_ROWS: dict[str, Row] = {
    "refill_settings": {
        "account_id": ACCOUNT,
        "enabled": True,
        "trigger_below_nanos": 5,
        "amount_nanos": 25,
        "monthly_cap_nanos": 100,
        "off_reason": None,
        "off_at": None,
        "created_at": NOW,
        "updated_at": NOW,
    },
    "card_consents": {
        "account_id": ACCOUNT,
        "consent_id": uuid.UUID(int=51),
        "text": "I agree",
        "address": "192.0.2.1",
        "actor_type": "user",
        "given_at": NOW,
    },
    "card_setups": {
        "account_id": ACCOUNT,
        "setup_id": uuid.UUID(int=52),
        "consent_id": CONSENT,
        "provider": "stripe",
        "provider_customer_id": "cus_1",
        "checkout_session_id": "cs_1",
        "status": "open",
        "created_at": NOW,
        "updated_at": NOW,
    },
    "saved_cards": {
        "account_id": ACCOUNT,
        "card_id": uuid.UUID(int=53),
        "consent_id": CONSENT,
        "provider": "stripe",
        "provider_customer_id": "cus_1",
        "provider_method_id": "pm_1",
        "brand": "visa",
        "last4": "4242",
        "expiry_month": 12,
        "expiry_year": 2034,
        "is_primary": True,
        "created_at": NOW,
        "removed_at": None,
    },
    "refills": {
        "account_id": ACCOUNT,
        "purchase_id": REFILLED,
        "card_id": CARD,
        "amount_nanos": 25,
        "status": "in_flight",
        "created_at": NOW,
        "updated_at": NOW,
        "finished_at": None,
    },
}
REFILL_VIOLATIONS: dict[str, tuple[str, list[Row]]] = {
    "ck_accounts_refill_below": ("accounts", [{"refill_below_nanos": 0}]),
    "ck_accounts_plan_terms": ("accounts", [{"plan_markup_percent": 0}]),
    "ck_accounts_plan_percents": ("accounts", [{"plan_markup_percent": 0, "plan_discount_percent": 100}]),
    "ck_refill_settings_trigger_below": ("refill_settings", [{"trigger_below_nanos": 0}]),
    "ck_refill_settings_amount": ("refill_settings", [{"amount_nanos": 0}]),
    "ck_refill_settings_monthly_cap": ("refill_settings", [{"monthly_cap_nanos": 24}]),
    "ck_refill_settings_off_reason": ("refill_settings", [{"enabled": False, "off_reason": "rain", "off_at": NOW}]),
    "ck_refill_settings_off_at": ("refill_settings", [{"off_reason": "declined", "off_at": NOW}]),
    "ck_refill_settings_declines": ("refill_settings", [{"declines": -1}]),
    "fk_refill_settings_account_id_accounts": ("refill_settings", [{"account_id": NOBODY}]),
    "ck_card_consents_actor_type": ("card_consents", [{"actor_type": "api_key"}]),
    "fk_card_consents_account_id_accounts": ("card_consents", [{"account_id": NOBODY}]),
    "ck_card_setups_provider": ("card_setups", [{"provider": "fondy"}]),
    "ck_card_setups_status": ("card_setups", [{"status": "lost"}]),
    "fk_card_setups_account_id_consent_id_card_consents": ("card_setups", [{"consent_id": NOBODY}]),
    "ck_saved_cards_provider": ("saved_cards", [{"provider": "fondy"}]),
    "ck_saved_cards_is_primary": ("saved_cards", [{"removed_at": NOW}]),
    "ck_saved_cards_expiry_month": ("saved_cards", [{"expiry_month": 13}]),
    "ck_saved_cards_expiry_year": ("saved_cards", [{"expiry_year": 34}]),
    "fk_saved_cards_account_id_consent_id_card_consents": ("saved_cards", [{"consent_id": NOBODY}]),
    "uq_saved_cards_account_id_provider_provider_method_id": (
        "saved_cards",
        [{"is_primary": False}, {"card_id": NOBODY, "is_primary": False}],
    ),
    "uq_saved_cards_primary": ("saved_cards", [{}, {"card_id": NOBODY, "provider_method_id": "pm_2"}]),
    "ck_refills_amount": ("refills", [{"amount_nanos": 0}]),
    "ck_refills_status": ("refills", [{"status": "lost", "finished_at": NOW}]),
    "ck_refills_finished_at": ("refills", [{"status": "paid"}]),
    "fk_refills_account_id_purchase_id_purchases": ("refills", [{"purchase_id": NOBODY}]),
    "fk_refills_account_id_card_id_saved_cards": ("refills", [{"card_id": NOBODY}]),
    "uq_refills_in_flight": ("refills", [{}, {"purchase_id": OTHER_PURCHASE}]),
}
"""By constraint: the table, and changes of its row of which the last breaks the rule."""
