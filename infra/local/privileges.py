"""Run Postgres as somebody other than root, without opening any folder to that user."""

import os
import pwd
import shutil
import signal
import sys
from pathlib import Path

from infra.local.errors import StackError

# An ambient capability that passes file permission checks, so that binaries and data are reached inside
# folders that only root may enter (a checkout in /root or in `mktemp -d`). Containers have it by default.
CAPABILITY = "+dac_override"
# Postgres looks for its own binary with access(2), which ignores an ordinary user's capabilities unless told.
ACCESS = "+no_setuid_fixup"
NO_WAY = (
    "Postgres refuses to run as root, and {why}.\n"
    "Run this as an ordinary user (for example: `useradd -m lull && su - lull`, in a checkout of its own)."
)


def server_owner(data: Path) -> int | None:
    """Return the user id that must own and run the data directory, or None when it is the caller's own."""
    me = os.geteuid()
    if data.exists():
        owner = data.stat().st_uid
        if me != 0 and owner != me:
            name = _user_name(owner)
            raise StackError(
                f"{data} belongs to {name}, not to you: start as {name}, or set LULL_HOME to another folder."
            )
        if me == 0 and owner != 0:
            return owner
    if me != 0:
        _require_name(me)
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise StackError(NO_WAY.format(why="there is no user `nobody` to run it as")) from None


def run_as(uid: int | None, command: list[str], *, parent_death: signal.Signals) -> list[str]:
    """Return the command that runs `command` as that user."""
    if uid is None:
        return command
    if sys.platform != "linux" or shutil.which("setpriv") is None:
        raise StackError(
            NO_WAY.format(why="`setpriv` (Linux, package util-linux) is not here to run it as another user")
        )
    # The change of user clears the parent-death signal that launch.py asked for, so setpriv asks again.
    options = [
        f"--reuid={uid}",
        f"--regid={_group(uid)}",
        "--clear-groups",
        f"--inh-caps={CAPABILITY}",
        f"--ambient-caps={CAPABILITY}",
        f"--securebits={ACCESS}",
        f"--pdeathsig={parent_death.name[3:]}",
    ]
    return ["setpriv", *options, *command]


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _require_name(uid: int) -> None:
    """Refuse a user id without a name: initdb would."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StackError(
            f"user id {uid} has no name in /etc/passwd, and Postgres needs one: add it."
        ) from None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
