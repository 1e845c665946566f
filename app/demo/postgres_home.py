"""Location, account and lock of an embedded PostgreSQL cluster.

A cluster is in `<state folder>/postgres`. PostgreSQL refuses to run as root, so for root it runs as `nobody`. If
`nobody` cannot enter the state folder (a project below /root, for example), the cluster is in
`/var/lib/ciris-billing/clusters/<hash of the state folder's path>`, and `<state folder>/postgres` links there. In both
cases, deleting the state folder means a new, empty cluster.
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
    """Create `state_dir` if missing, and lock it for this process until the returned descriptor is closed.

    Raise LaunchError at once if another process holds the lock. The lock ends with its holder.
    """
    if not state_dir.exists():
        state_dir.mkdir(parents=True)
        state_dir.chmod(0o755)  # independent of the umask: `nobody` must be able to enter
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
    """Return the account to run as: None for the current user; for root, the owner of the data or `nobody`."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        owner = (state_dir / "postgres" / "data").stat()
        if owner.st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)  # a normal user's cluster keeps its owner
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY_WITHOUT_ENTRY
    return Account(entry.pw_uid, entry.pw_gid)


def choose_home(state_dir: Path, account: Account | None) -> Path:
    """Return the cluster's folder; create it if missing, and handle an existing one. Requires the lock."""
    local = state_dir / "postgres"
    if account is None:
        if local.is_symlink():
            raise LaunchError(
                f"{local} was created by root. Run as root again, or delete it to start with an empty database."
            )
        local.mkdir(mode=0o700, exist_ok=True)
        return local
    remote = _home_for_root(state_dir)
    if local.is_symlink():
        if _links_to(local, remote) and remote.is_dir():
            return remote
        local.unlink()  # a copied state folder: the link leads to the original's data
    local.mkdir(exist_ok=True)
    local.chmod(0o711)
    if allowed(account, ["/bin/sh", "-c", 'test -x "$0"', str(local)]):
        return local
    if (local / "data").exists():
        raise LaunchError(
            f"PostgreSQL runs as uid {account.uid} here, which cannot enter {local}. Give others the right to "
            f"pass through the folders above it, or delete {local} to start with an empty database."
        )
    shutil.rmtree(local)
    _discard(remote)  # its state folder was deleted, otherwise the link would exist
    folder_for_root("clusters")
    remote.mkdir()
    remote.chmod(0o711)
    local.symlink_to(remote)
    return remote


def remove_home(state_dir: Path) -> None:
    """Delete the cluster of `state_dir`, in either location, and end a postmaster left on it. Requires the lock."""
    local, remote = state_dir / "postgres", _home_for_root(state_dir)
    if not local.is_symlink():
        _discard(local)
        return
    if _links_to(local, remote):
        _discard(remote)
    local.unlink()


def folder_for_root(name: str = "") -> Path:
    """Return a folder of root that every user can read, independent of the umask; create it if missing."""
    folder = _FOR_ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in {_FOR_ROOT, folder}:
        part.chmod(0o755)
    return folder


def end_leftover(data_dir: Path) -> None:
    """End the postmaster of a killed launcher, and delete a pid file that now names another process.

    PostgreSQL handles a pid file of a dead process. It refuses to start if the number belongs to another process now,
    or if the killed postmaster is an unreaped zombie. Requires the lock.
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
    raise LaunchError(f"PostgreSQL (pid {pid}) does not end, even after SIGKILL.")


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically by a file that only its owner can read."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    unfinished.rename(path)


@contextlib.contextmanager
def explained(state_dir: Path) -> Iterator[None]:
    """Turn an error of the operating system into a LaunchError that says what to do."""
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
    """Return whether process `pid` is a living postmaster on `data_dir`. False for a zombie.

    The command line decides, because the number may belong to another process by now.
    """
    if Path("/proc/self/cmdline").exists():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(data_dir) in arguments
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return b" -D " + os.fsencode(data_dir) + b" " in listed.stdout
