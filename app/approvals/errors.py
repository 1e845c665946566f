"""Errors of approvals. A request that needs one raises `app.ledger.limits.ApprovalRequired`."""

from app.errors import AppError


class ApprovalNotFound(AppError):
    """Not cacheable: an unknown id may be one of another environment."""

    status, code = 404, "approval_not_found"

    def __init__(self) -> None:
        super().__init__("Approval not found", headers={"Cache-Control": "no-store"})


class ApprovalClosed(AppError):
    """It was decided otherwise, was used, or has expired. `approval_status` says which."""

    status, code = 409, "approval_closed"

    def __init__(self, approval_status: str) -> None:
        super().__init__(f"The approval is {approval_status}", figures={"approval_status": approval_status})
