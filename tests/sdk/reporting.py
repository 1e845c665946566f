"""A process that reports usage events, for test_reporter.py: the test kills it, or lets it fork.

reporting.py URL FOLDER USER NUMBER [fork]: prints each event id after `report` has returned.
"""

import os
import sys

from ciris_billing import LlmTokens, UsageEvent
from ciris_billing.reporter import ReporterOptions, UsageReporter


def report(reporter: UsageReporter, user_id: str, number: int) -> None:
    tokens = LlmTokens("openai", "gpt-4o-mini", 1200, number)
    event_id = reporter.report(UsageEvent(usage=tokens, user_id=user_id, event_id=f"{user_id}-{number}"))
    os.write(1, f"{event_id}\n".encode())  # one write: a fork shares the pipe


def main(url: str, folder: str, user_id: str, number: int, *, fork: bool) -> None:
    reporter = UsageReporter(url, "key", folder, options=ReporterOptions(interval_s=0.02))
    report(reporter, user_id, 0)
    if fork and os.fork() == 0:
        user_id = f"child-of-{user_id}"
    for n in range(1, number):
        report(reporter, user_id, n)
    settled = reporter.close(20)
    if fork:
        os.wait() if not user_id.startswith("child") else os._exit(not settled)
    sys.exit(not settled)


if __name__ == "__main__":
    url, folder, user_id, number, *more = sys.argv[1:]
    main(url, folder, user_id, int(number), fork=more == ["fork"])
