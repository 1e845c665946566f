"""Client for CIRIS Billing: gate an agent's interactions, charge for them, and sell credits.

async with AsyncBillingClient("https://billing.example.com", api_key) as billing:
    async with billing.gate(user, interaction_id=message_id):
        await answer(message)
"""

from ciris_billing._calls import FailPolicy
from ciris_billing._retry import Retry
from ciris_billing.client import AsyncBillingClient, BillingClient
from ciris_billing.errors import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidReply,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PurchaseFailed,
    PurchasePending,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
    Unavailable,
)
from ciris_billing.gate import NoCredit, Passage
from ciris_billing.keys import charge_key, tool_key
from ciris_billing.models import (
    Account,
    Charge,
    ChargeMetadata,
    CheckContext,
    Credit,
    CreditStatus,
    Currencies,
    Currency,
    Health,
    LlmUsageLogged,
    Metadata,
    Pack,
    Packs,
    Purchase,
    PurchaseStatus,
    ToolBalance,
    ToolCharge,
    ToolCheck,
    Transaction,
    TransactionPage,
    User,
)
from ciris_billing.options import Options

__all__ = [
    "Account",
    "AccountClosed",
    "AccountSuspended",
    "AsyncBillingClient",
    "BillingClient",
    "BillingError",
    "Charge",
    "ChargeMetadata",
    "CheckContext",
    "Credit",
    "CreditStatus",
    "Currencies",
    "Currency",
    "FailPolicy",
    "Health",
    "IdempotencyKeyReused",
    "InsufficientCredits",
    "InvalidReply",
    "InvalidRequest",
    "LlmUsageLogged",
    "Metadata",
    "NoCredit",
    "NotFound",
    "Options",
    "Pack",
    "Packs",
    "Passage",
    "PermissionDenied",
    "Purchase",
    "PurchaseFailed",
    "PurchasePending",
    "PurchaseStatus",
    "RateLimited",
    "Retry",
    "ServerError",
    "ServiceUnavailable",
    "ToolBalance",
    "ToolCharge",
    "ToolCheck",
    "Transaction",
    "TransactionPage",
    "Unauthorized",
    "Unavailable",
    "User",
    "charge_key",
    "tool_key",
]
