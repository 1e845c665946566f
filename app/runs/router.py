"""`/v1/billing/runs`: register an agent's runs with budgets, change them, and read what they spent."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response, status

from app.accounts.dependencies import Accounts, NamedUser, QueryUser
from app.auth.api_keys.key_route import KeyRoute
from app.auth.caller import Caller
from app.auth.dependencies import ReaderOrUser, Writer
from app.clock import Now
from app.http.idempotency import REPLAYED, REPLAYED_IN_OPENAPI
from app.http.schemas import ERRORS, ErrorReply, Key255, RunId
from app.refusals.schemas import NotAllowedReply
from app.runs.errors import RunNotFound
from app.runs.schemas import (
    ReceiptReply,
    RunBody,
    RunChangeBody,
    RunReply,
    RunsReply,
)
from app.runs.service import RunService

router = APIRouter(prefix="/v1/billing/runs", tags=["billing"], responses=ERRORS, route_class=KeyRoute)
SINCE = "0040"
"""Versions before this revision do not count what runs spend (ADR 26)."""
REPEAT: dict[str, Any] = {"headers": REPLAYED_IN_OPENAPI, "description": "A repeat: nothing changed."}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
PathRunId = Annotated[Key255, Path(description="The run's id. Encode a slash as `%2F` or send it as it is.")]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=RunReply,
    responses={200: {"model": RunReply, **REPEAT}, 402: {"model": NotAllowedReply}},
)
async def create_run(body: RunBody, request: Request, caller: Writer, now: Now) -> RunReply | Response:
    """Register a run, with a budget or below another run. Creates a missing account.

    From now on, work that names the run counts in it and in every ancestor, and each of their budgets must have room
    for it. The same request again answers 200 with the run. 422 `run_id_reused`: the id has another parent, budget or
    metadata. 402 if an ancestor is paused or closed. 503 `upgrade_in_progress` while the service is being upgraded.
    """
    state = request.app.state
    new = body.new_run()
    await state.version_mark.require(SINCE)
    profile = body.profile(caller)._replace(agent_id=None)
    account_id, _ = await state.accounts.directory.find_or_create(
        body.identity(caller), caller.actor, now, profile=profile
    )
    service: RunService = state.runs
    run, is_new = await service.register(account_id, new, now)
    reply = RunReply.of(run)
    if is_new:
        return reply
    return Response(reply.model_dump_json(), headers=REPLAYED, media_type="application/json")


@router.get("", responses=NOT_FOUND)
async def list_runs(
    user: QueryUser,
    request: Request,
    caller: ReaderOrUser,
    accounts: Accounts,
    before: Annotated[RunId | None, Query(description="The last run of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> RunsReply:
    """List the user's runs, newest first. An unknown user has none.

    404 `run_not_found`: the user has no run with the id `before`.
    """
    account_id = await accounts.directory.find(user.identity(caller))
    if account_id is None:
        return RunsReply(runs=[], has_more=False)
    service: RunService = request.app.state.runs
    runs = await service.list_runs(account_id, before, limit + 1)
    return RunsReply(runs=[RunReply.of(run) for run in runs[:limit]], has_more=len(runs) > limit)


# A run's id may contain slashes.
@router.get("/{run_id:path}", responses=NOT_FOUND)
async def get_run(
    run_id: PathRunId, user: QueryUser, request: Request, response: Response, caller: ReaderOrUser, accounts: Accounts
) -> ReceiptReply:
    """Return the receipt of a run: the calls and the spending of it and of the runs below it, as a tree.

    It lists up to 100 runs, and of each its newest 1,000 calls of each kind, in up to 100 groups. `spent` counts all.
    """
    response.headers["Cache-Control"] = "no-store"
    account_id = await _account_of(user, caller, accounts)
    service: RunService = request.app.state.runs
    return ReceiptReply.of_receipt(await service.receipt(account_id, run_id))


@router.patch("/{run_id:path}", responses={**NOT_FOUND, 409: {"model": ErrorReply}})
async def change_run(
    run_id: PathRunId, body: RunChangeBody, request: Request, caller: Writer, accounts: Accounts, now: Now
) -> RunReply:
    """Lower a run's budget, pause it or close it. Work in a paused or closed run, and below it, is refused.

    Open holds and cost records are still settled. 403 `person_required`: a higher budget or an end of the pause
    needs an admin. 409 `run_ended`: the run is closed.
    """
    account_id = await accounts.directory.find(body.identity(caller))
    if account_id is None:
        raise RunNotFound
    service: RunService = request.app.state.runs
    _, run = await service.change(account_id, run_id, body.change(), now)
    return RunReply.of(run)


async def _account_of(user: NamedUser, caller: Caller, accounts: Accounts) -> UUID:
    account_id = await accounts.directory.find(user.identity(caller))
    if account_id is None:
        raise RunNotFound
    return account_id
