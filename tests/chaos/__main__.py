"""Break every dependency of the service, one after the other, under load; then verify its books.

Exits with 1 when a promise was broken: docs/reliability.md lists the promises.
"""

import argparse
import asyncio
import time

import uvloop

from tests.chaos.audit import audit
from tests.chaos.load import KINDS, Journal, Load, running_load
from tests.chaos.report import Result, table, write
from tests.chaos.scenarios import SCENARIOS, SHORT, BrokenPromise, Scenario
from tests.chaos.stack import Stack, running_stack

WARM_UP_S = 1.0
RECOVERY_S = 5.0
QUIET_S = 1.5
"""A fault is over once no request has failed for so long."""
SCENARIO_TIMEOUT_S = 120.0


async def try_out(stack: Stack, scenario: Scenario, seed: int, seconds: float) -> Result:
    """The load, the fault, the recovery and the books."""
    result = Result(scenario, scenario.impossible(stack))
    if result.not_tried is not None:
        return result
    began_s = ended_s = 0.0
    async with running_load(stack, seed, scenario.tolerated) as load:
        await asyncio.sleep(WARM_UP_S)
        began_s = time.monotonic()
        try:
            await scenario.fault(stack, seconds)
        except BrokenPromise as broken:
            result.problems.append(str(broken))
        ended_s = time.monotonic()
        await until_quiet(load, ended_s)
    calls = load.journal.calls
    result.lasted_s = ended_s - began_s
    result.statuses = load.journal.statuses()
    result.slowest_s = max(call.took_s for call in calls)
    result.recovered_s = last_failure(load.journal, scenario, ended_s) - ended_s
    result.problems += [
        f"{call.kind}, sent at {call.started_s - began_s:+.1f} s: {call.problem}" for call in calls if call.problem
    ]
    if any(not call.ok and call.started_s + call.took_s < began_s for call in calls):
        result.problems.append("it was not well to begin with")
    if scenario.costs_nothing and result.statuses[503]:
        result.problems.append(f"{result.statuses[503]} requests were answered 503")
    if result.recovered_s > RECOVERY_S:
        result.problems.append(f"still failing {result.recovered_s:.1f} s after the fault's end")
    again = {call.kind for call in calls if call.ok and call.started_s >= ended_s}
    result.problems += [f"no {kind} since the fault's end" for kind in KINDS if kind not in again]
    books = await audit(stack, load.journal)
    result.acknowledged, result.unacknowledged = books.acknowledged, books.unacknowledged
    result.found_all_the_same, result.bought = books.found_all_the_same, books.bought
    result.problems += books.problems
    return result


def last_failure(journal: Journal, scenario: Scenario, ended_s: float) -> float:
    """When the last request was sent that failed; the fault's end if none failed later."""
    failed = [call.started_s for call in journal.calls if not call.ok and call.status not in scenario.tolerated]
    return max([ended_s, *failed])


async def until_quiet(load: Load, ended_s: float) -> None:
    """Until nothing has failed for QUIET_S, or it is certain that it takes too long."""
    while True:
        await asyncio.sleep(0.1)
        now_s = time.monotonic()
        quiet_since_s = max([ended_s, *(c.started_s + c.took_s for c in load.journal.calls if not c.ok)])
        again = {call.kind for call in load.journal.calls if call.ok and call.started_s >= ended_s}
        if now_s - ended_s > RECOVERY_S + QUIET_S or (now_s - quiet_since_s > QUIET_S and again.issuperset(KINDS)):
            return


async def main(options: argparse.Namespace) -> int:
    chosen = options.only or (SHORT if options.short else [scenario.name for scenario in SCENARIOS])
    results: list[Result] = []
    print(f"{len(chosen)} faults, seed {options.seed}", flush=True)
    async with running_stack(everything=not options.short) as stack:
        for scenario in SCENARIOS:
            if scenario.name not in chosen:
                continue
            if scenario.between and scenario.impossible(stack) is None:
                await stack.put_between()
            async with asyncio.timeout(SCENARIO_TIMEOUT_S):
                seconds = scenario.seconds / (2 if options.short else 1)
                results.append(await try_out(stack, scenario, options.seed, seconds))
            print(results[-1].row, flush=True)
            for problem in results[-1].problems[:10]:
                print(f"    {problem}", flush=True)
        unsound = await stack.ledger_verify()
        if options.logs:
            for api in stack.apis:
                assert api.server is not None
                print(api.server.printed()[-options.logs :])
    print(f"ledger verify: {unsound or 'ok'}")
    failed = [result for result in results if result.problems]
    if options.write and len(results) == len(SCENARIOS):
        write("chaos", table(results))
    print(f"{len(results) - len(failed)} held, {len(failed)} failed")
    return 1 if failed or unsound else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the few faults of every test run")
    parser.add_argument("--only", nargs="+", choices=[s.name for s in SCENARIOS], help="these faults")
    parser.add_argument("--seed", type=int, default=5, help="of what is left to chance")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    parser.add_argument("--logs", type=int, default=0, help="print so many bytes of each API process's log")
    raise SystemExit(uvloop.run(main(parser.parse_args())))
