"""Ends the demo's processes after a supervisor that was killed outright and so could not.

Each line of its standard input is a process id and the number of the signal that ends it. The supervisor holds the
other end of that pipe, which the kernel closes however it dies; one that ends in good order says `done` first.
"""

import contextlib
import os
import signal
import sys
import time

PATIENCE_S = 10.0
"""How long the processes have, all together, until they are killed."""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(watched: list[tuple[int, int]]) -> None:
    """End processes: the first one named when the others are gone, for they need it (PostgreSQL)."""
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
