"""Errors of the routes of runs. Refusals of spending in a run are in app/ledger/runs.py."""

from app.errors import AppError


class RunNotFound(AppError):
    """Not cacheable: the run may be registered a moment later."""

    status, code = 404, "run_not_found"

    def __init__(self) -> None:
        super().__init__("Run not found", headers={"Cache-Control": "no-store"})


class RunIdReused(AppError):
    """The run id was registered with another parent, budget or metadata. Nothing changed."""

    status, code = 422, "run_id_reused"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run_id {run_id!r} was registered before as another run", figures={"field": "run_id"})


class TooManyRuns(AppError):
    """The account has the largest number of runs that are not closed."""

    status, code = 422, "too_many_runs"

    def __init__(self, most: int) -> None:
        super().__init__(f"The account has {most:,} runs that are not closed: close some")


class RunEnded(AppError):
    """The run is closed, and a closed run does not change."""

    status, code = 409, "run_ended"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run {run_id} is closed already: it cannot change")
