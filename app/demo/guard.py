"""Guard process: ends the demo's processes if the supervisor was killed and could not do so.

Each line of its standard input is a process id and the number of the signal that ends it. The supervisor holds the
other end of the pipe. The kernel closes it however the supervisor dies; after an orderly end, the supervisor has
written `done` first.
"""

import contextlib
import os
import signal
import sys
import time

PATIENCE_S = 10.0
"""The time that the processes have in total until they are killed."""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(watched: list[tuple[int, int]]) -> None:
    """End processes. The first one (PostgreSQL) is ended last, because the others need it."""
    deadline = time.monotonic() + PATIENCE_S
    for group in (watched[1:], watched[:1]):
        for pid, number in group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        for pid, _ in group:
            while _is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main() -> None:
    watched = []
    for line in sys.stdin:
        if line == "done\n":
            return
        pid, number = line.split()
        watched.append((int(pid), int(number)))
    end(watched)


if __name__ == "__main__":
    main()
