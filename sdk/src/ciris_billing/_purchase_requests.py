"""Answers to MCP tool calls that are not paid for: by the protocol version of the connection, the request to open the
purchase page, or an error for the model."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from mcp import UrlElicitationRequiredError
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.types import CallToolResult, ElicitRequest, ElicitRequestURLParams, InputRequiredResult, TextContent
from mcp_types.version import is_version_at_least

from ciris_billing.errors import AccountClosed, AccountSuspended, BillingError, InsufficientCredits, InsufficientMoney

Context = ServerRequestContext[Any, Any]
INPUT_REQUIRED_SINCE = "2026-07-28"
"""Results can ask for input; the client repeats the call with it."""
URL_ELICITATION_SINCE = "2025-11-25"
"""Errors can name URLs that the user has to visit first."""
HELPED_BY_PURCHASE = frozenset({InsufficientCredits.default_code, InsufficientMoney.default_code})
"""Codes of 402. Others are of limits and budgets."""
PURCHASE = "ciris_billing_purchase"
"""Names the purchase among the input requests of a result."""


def checked_url(url: str | None) -> str | None:
    """Return the address of the purchase page. Raises ValueError if it is not one that a client can open."""
    if url is not None and not (urlsplit(url).scheme in ("https", "http") and urlsplit(url).hostname):
        raise ValueError(f"purchase_url is no web address: {url!r}")
    return url


def refused(ctx: Context, error: BillingError, purchase_url: str | None) -> HandlerResult:
    """Return the answer to a call that is not paid for. Raises UrlElicitationRequiredError, which is the answer in the
    protocol version 2025-11-25.

    A client is only asked to open a URL if it has declared that it can."""
    sentence = _sentence(error)
    if purchase_url is None or error.code not in HELPED_BY_PURCHASE:
        return _error(sentence)
    action = _answer_to_purchase(ctx)
    if action in ("decline", "cancel"):
        return _error(f"{sentence} The user has not agreed to it.")
    if _opens_urls(ctx):
        if is_version_at_least(ctx.protocol_version, INPUT_REQUIRED_SINCE):
            page = ElicitRequestURLParams(message=_question(error), url=purchase_url)
            return InputRequiredResult(input_requests={PURCHASE: ElicitRequest(params=page)})
        if is_version_at_least(ctx.protocol_version, URL_ELICITATION_SINCE):
            page = ElicitRequestURLParams(message=_question(error), url=purchase_url, elicitation_id=uuid.uuid4().hex)
            raise UrlElicitationRequiredError([page])
    return _error(f"{sentence} Purchases: {purchase_url}")


def without_purchase(ctx: Context) -> Context:
    """Return the request without the answer to the purchase, which is not for the tool."""
    answers = (ctx.params or {}).get("inputResponses")
    if not isinstance(answers, Mapping) or PURCHASE not in answers:
        return ctx
    rest = {name: answer for name, answer in answers.items() if name != PURCHASE}
    params = {name: value for name, value in (ctx.params or {}).items() if name != "inputResponses"}
    return replace(ctx, params={**params, "inputResponses": rest} if rest else params)


def _answer_to_purchase(ctx: Context) -> object:
    answers = (ctx.params or {}).get("inputResponses")
    answer = answers.get(PURCHASE) if isinstance(answers, Mapping) else None
    return answer.get("action") if isinstance(answer, Mapping) else None


def _opens_urls(ctx: Context) -> bool:
    capabilities = ctx.session.client_capabilities
    elicitation = None if capabilities is None else capabilities.elicitation
    return elicitation is not None and elicitation.url is not None


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _question(error: BillingError) -> str:
    """Return what the user reads before the page is opened."""
    unit = "money" if isinstance(error, InsufficientMoney) else "credits"
    return f"You have not enough {unit} left for this tool. Open the page to buy some; the call continues afterwards."


def _sentence(error: BillingError) -> str:
    """Return the error text for the model. It does not disclose problems between the server and the service."""
    if error.status == 402 and error.code not in HELPED_BY_PURCHASE:
        return "Not paid for: a limit on the user's spending does not allow this call now."
    match error:
        case InsufficientCredits():
            return "Not paid for: the user has no credits left for this tool and has to buy some."
        case InsufficientMoney():
            return "Not paid for: the user has not enough money left for this tool and has to add some."
        case AccountSuspended() | AccountClosed():
            return "Not paid for: the user's account cannot spend credits."
    return "Not paid for: the billing service is unavailable. Try again later."
