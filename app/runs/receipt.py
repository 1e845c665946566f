"""Receipts of runs: a tree of runs, and what each of them did. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

MAX_RUNS = 100
"""Runs of a receipt."""
MAX_GROUPS = 100
"""Groups of calls of one run."""
Row = Mapping[str, Any]


@dataclass(slots=True)
class Receipt:
    """A run of the tree, what it did itself, and the runs below it.

    `is_complete` is False if it did more, or has more runs below it, than the receipt shows.
    """

    run: Row
    calls: list[Row] = field(default_factory=list)
    runs: list["Receipt"] = field(default_factory=list)
    is_complete: bool = True


def receipt_of(runs: Sequence[Row], calls: Sequence[Row]) -> Receipt:
    """Return the receipt of the first run. The others are below it, parents before children.

    A run beyond MAX_RUNS shows that there are more. A group of calls without a kind is not listed.
    """
    of_run: defaultdict[str, list[Row]] = defaultdict(list)
    for call in calls:
        of_run[call["run_id"]].append(call)
    receipts: dict[UUID, Receipt] = {}
    for run in runs[:MAX_RUNS]:
        is_complete = not any(call["is_partial"] for call in of_run[run["run_id"]])
        theirs = [call for call in of_run[run["run_id"]] if call["kind"] is not None]
        is_complete = is_complete and len(theirs) <= MAX_GROUPS
        receipt = receipts[run["run_uuid"]] = Receipt(run, theirs[:MAX_GROUPS], is_complete=is_complete)
        if (parent := receipts.get(run["parent_uuid"])) is not None:
            parent.runs.append(receipt)
    root = receipts[runs[0]["run_uuid"]]
    root.is_complete = root.is_complete and len(runs) <= MAX_RUNS
    return root
