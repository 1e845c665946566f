"""Where an embedded PostgreSQL cluster lives, as whom it runs, and who holds it.

A cluster lives in `<state folder>/postgres`. PostgreSQL refuses to run as root, so for root it runs as `nobody`.
If `nobody` cannot get into the state folder (a project below /root, say), the cluster lives in
`/var/lib/ciris-billing/clusters/<hash of the state folder's path>` and `<state folder>/postgres` links there.
Deleting the state folder means a new, empty cluster in either case.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.demo.postgres_binaries import Account, LaunchError, allowed

STOP_TIMEOUT_S = 30.0

_POLL_S = 0.02
_FOR_ROOT = Path("/var/lib/ciris-billing")
_NOBODY_WITHOUT_ENTRY = Account(65534, 65534)


def lock(state_dir: Path) -> int:
    """Make `state_dir` if missing and hold it for this process until the returned descriptor is closed.

    Raises LaunchError at once when another process holds it. The lock dies with its holder.
    """
    if not state_dir.exists():
        state_dir.mkdir(parents=True)
        state_dir.chmod(0o755)  # whatever the umask: `nobody` has to get through
    descriptor = os.open(state_dir / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise LaunchError(
            f"Another process (pid {holder or 'unknown'}) runs PostgreSQL in {state_dir}. "
            "End that one first, or use another state folder."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def choose_account(state_dir: Path) -> Account | None:
    """Whom to run as: None for the launcher's own user; for root, the owner of the data or `nobody`."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        owner = (state_dir / "postgres" / "data").stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)  # a normal user's cluster stays theirs
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY_WITHOUT_ENTRY
    return Account(entry.pw_uid, entry.pw_gid)


def choose_home(state_dir: Path, account: Account | None) -> Path:
    """The cluster's folder, made if missing. Takes care of what was there before. Needs the lock."""
    local = state_dir / "postgres"
    if account is None:
        if local.is_symlink():
            raise LaunchError(
                f"{local} was made by root. Run as root again, or delete it to begin with an empty database."
            )
        local.mkdir(mode=0o700, exist_ok=True)
        return local
    remote = _home_for_root(state_dir)
    if local.is_symlink():
        if _links_to(local, remote) and remote.is_dir():
            return remote
        local.unlink()  # a copy of another state folder: that one's data is not ours
    local.mkdir(exist_ok=True)
    local.chmod(0o711)
    if allowed(account, ["/bin/sh", "-c", 'test -x "$0"', str(local)]):
        return local
    if (local / "data").exists():
        raise LaunchError(
            f"PostgreSQL runs as uid {account.uid} here, which may not enter {local}. Give others the right to "
            f"pass through the folders above it, or delete {local} to begin with an empty database."
        )
    shutil.rmtree(local)
    _discard(remote)  # its state folder was deleted, else there would be the link
    folder_for_root("clusters")
    remote.mkdir()
    remote.chmod(0o711)
    local.symlink_to(remote)
    return remote


def remove_home(state_dir: Path) -> None:
    """Delete the cluster of `state_dir`, wherever it is, ending a postmaster left on it. Needs the lock."""
    local, remote = state_dir / "postgres", _home_for_root(state_dir)
    if not local.is_symlink():
        _discard(local)
        return
    if _links_to(local, remote):
        _discard(remote)
    local.unlink()


def folder_for_root(name: str = "") -> Path:
    """A folder of root's that everyone can read, whatever the umask; made if missing."""
    folder = _FOR_ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in {_FOR_ROOT, folder}:
        part.chmod(0o755)
    return folder


def end_leftover(data_dir: Path) -> None:
    """End the postmaster of a launcher that was killed, and drop a pid file that now means another process.

    PostgreSQL copes with a pid file whose process is gone; it refuses to start when the number was given to
    another process, or when the killed postmaster is a zombie that nobody has reaped. Needs the lock.
    """
    pid_file = data_dir / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(pid_file.read_text().splitlines()[0])
        if _runs_on(pid, data_dir):
            end_process(pid, lambda: not _runs_on(pid, data_dir), signal.SIGINT)
        pid_file.unlink(missing_ok=True)


def end_process(pid: int, ended: Callable[[], bool], first: signal.Signals) -> None:
    """Signal `pid` until `ended`: with `first`, then to quit without writing anything out, then SIGKILL."""
    for number, patience_s in ((first, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if ended():
                return
            time.sleep(_POLL_S)
    raise LaunchError(f"PostgreSQL (pid {pid}) does not end, not even by SIGKILL.")


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only its owner reads."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    unfinished.rename(path)


@contextlib.contextmanager
def explained(state_dir: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a LaunchError that says what to do."""
    try:
        yield
    except OSError as failed:
        raise LaunchError(
            f"The state folder {state_dir} cannot be used: {failed}. Make it writable for the user who runs this "
            "(and check for free space), choose another state folder, or set DATABASE_URL."
        ) from failed


def _home_for_root(state_dir: Path) -> Path:
    return _FOR_ROOT / "clusters" / hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]


def _links_to(link: Path, target: Path) -> bool:
    return Path(os.readlink(link)) == target


def _discard(home: Path) -> None:
    end_leftover(home / "data")
    if home.is_dir():
        shutil.rmtree(home)


def _runs_on(pid: int, data_dir: Path) -> bool:
    """Whether process `pid` lives and is a postmaster on `data_dir`. False for a zombie.

    The command line decides: the number alone may belong to another process by now.
    """
    if Path("/proc/self/cmdline").exists():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(data_dir) in arguments
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return b" -D " + os.fsencode(data_dir) + b" " in listed.stdout
