"""For the scenarios of holds in LiteLLM's environment: their users, and the callbacks that hold."""

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from ciris_billing import BillingClient, User
from ciris_billing.holds import OnExpiry
from ciris_billing.litellm_holds import CallHolds, LiteLLMHolds
from tests.sdk.litellm_support import use

USERS: dict[str, str] = json.loads(os.environ["USERS"])
SMALL = CallHolds(max_tokens=1000, report_every_s=0)
POLICIES: list[OnExpiry] = ["release", "capture_reported", "capture_all"]
CUT = {policy: CallHolds(max_tokens=1000, on_cut=policy, report_every_s=3600) for policy in POLICIES}


def who(scenario: str) -> User:
    return User("oauth:zero", USERS[scenario])


class Spy(CustomLogger):  # type: ignore[misc]  # LiteLLM has no types, so its class is Any
    """Follows the billing in LiteLLM's list, and notes what the user has left while the call runs."""

    def __init__(self, left: Callable[[], object]) -> None:
        super().__init__()
        self._left = left
        self.seen: list[object] = []
        self.successes = 0

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        self.seen.append(self._left())

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self.successes += 1


@contextlib.contextmanager
def installed(client: BillingClient, holds: CallHolds | None = SMALL, *others: CustomLogger) -> Any:
    billing = LiteLLMHolds(client, holds=holds)
    use(billing, *others)
    yield billing
    billing.close()
