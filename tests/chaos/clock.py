"""A clock that jumps under a real process: libfaketime, preloaded, reads by how much from a file."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def library() -> Path | None:
    """Where Debian's `libfaketime` and other distributions' have put it; None where it is not installed."""
    found = (path for pattern in LIBRARIES for path in Path("/").glob(pattern.lstrip("/")))
    return next(found, None)


class Clock:
    """The clock of the processes started with `environment`, until `stack` ends: the real time plus an offset."""

    def __init__(self, stack: AsyncExitStack, *, may_jump: bool) -> None:
        self._library = library() if may_jump else None
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ciris-billing-clock-"))
        self._file = Path(folder) / "offset"
        self.jump(0)

    @property
    def can_jump(self) -> bool:
        return self._library is not None

    @property
    def environment(self) -> dict[str, str]:
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            # As when an operator sets the clock: the monotonic clock continues.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, to_s: float) -> None:
        """Seconds from the real time, noticed within a second."""
        self._file.write_text(f"{to_s:+g}\n")
