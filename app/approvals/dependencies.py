"""FastAPI dependency of the approval routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.approvals.service import ApprovalService


async def approval_service(request: Request) -> ApprovalService:
    service: ApprovalService = request.app.state.approvals
    return service


Approvals = Annotated[ApprovalService, Depends(approval_service)]
