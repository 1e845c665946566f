"""Billing for LiteLLM's proxy: set `litellm_settings: {callbacks: custom_callbacks.billing}` in its configuration."""

import os

from ciris_billing import BillingClient
from ciris_billing.litellm import LiteLLMBilling

billing = LiteLLMBilling(BillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"]))
