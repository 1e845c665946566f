"""Usage routes: an agent reports the LLM usage of an interaction."""

from fastapi import APIRouter, Request, status

from app.accounts.service import AccountService
from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import Writer
from app.clock import Now
from app.http.schemas import ERRORS
from app.metering.llm_usage import LlmUsageReport, record_llm_usage
from app.metering.schemas import LlmUsageBody, LlmUsageReply

router = APIRouter(prefix="/v1/billing", tags=["billing"], responses=ERRORS, route_class=KeyRoute)


@router.post("/litellm/usage", status_code=status.HTTP_201_CREATED)
async def report_llm_usage(body: LlmUsageBody, request: Request, caller: Writer, now: Now) -> LlmUsageReply:
    """Record what an interaction's LLM calls cost. Moves no credits."""
    accounts: AccountService = request.app.state.accounts
    account_id = await accounts.directory.resolve(body.identity(caller), body.profile(caller), caller.actor, now)
    report = LlmUsageReport(**{name: getattr(body, name) for name in LlmUsageReport.__slots__})
    usage_log_id = await record_llm_usage(request.app.state.db, account_id, report, now)
    return LlmUsageReply(logged=True, usage_log_id=usage_log_id)
