"""Walk customers through two years of subscriptions at the local Stripe, and shake what Stripe says about them.

Two services get the same events. The first gets them reordered within each quarter, half of them twice, some a quarter
late, and some never: it reads those from Stripe. The second gets each event once, in order. In the end their books are
equal, each customer has the plan and the money of its life, and the ledgers verify. Otherwise the command exits with 1.
"""

import argparse
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

from app.demo.postgres import ephemeral_cluster
from tests.chaos.report import write
from tests.databases import prepare
from tests.simulation.delivery import Counts
from tests.simulation.walk import Result, Share, walk_share

SHOWN = 10


def main(options: argparse.Namespace) -> int:
    started_s, number = time.monotonic(), options.processes
    print(f"{options.customers} customers, seed {options.seed}", flush=True)
    shares = [
        Share(
            one,
            options.customers // number + (one < options.customers % number),
            options.webhooks // number,
            options.seed,
            options.limit_s,
        )
        for one in range(number)
    ]
    with ProcessPoolExecutor(number, multiprocessing.get_context("spawn")) as processes:
        results = list(processes.map(walk_share, shares))
    problems = [problem for result in results for problem in result.problems]
    for problem in problems[:SHOWN]:
        print(problem)
    table = report(results, options, time.monotonic() - started_s)
    print(table, end="")
    if options.write:
        write("simulation", table)
    return 1 if problems else 0


def report(results: list[Result], options: argparse.Namespace, took_s: float) -> str:
    """Return a table with one row."""
    counts = sum((result.counts for result in results), start=Counts())
    differences = sum(len(result.problems) for result in results)
    cells = {
        "customers": f"{options.customers:,}",
        "seed": str(options.seed),
        "events": f"{counts.events:,}",
        "repeated": f"{counts.repeated:,}",
        "a quarter late": f"{counts.late:,}",
        "lost": f"{counts.lost:,}",
        "delivered as webhooks": f"{counts.webhooks:,}",
        "subscriptions read from Stripe": f"{sum(result.refreshes for result in results):,}",
        "time": f"{took_s / 60:.0f} min",
        "books": f"**{differences} differences**" if differences else "equal, verified",
    }
    return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}\n| {' | '.join(cells.values())} |\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--webhooks", type=int, default=16, help="customers whose events are signed webhooks")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that share the customers")
    parser.add_argument("--seed", type=int, default=15, help="of all random choices")
    parser.add_argument("--limit-s", type=float, default=3600, help="give up after so long")
    parser.add_argument("--write", action="store_true", help="put the result into docs/reliability.md")
    chosen = parser.parse_args()
    with ephemeral_cluster() as cluster:
        prepare(cluster)
        raise SystemExit(main(chosen))
