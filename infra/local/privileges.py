"""Run Postgres as a user other than root, without opening any folder to that user."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from infra.local.environment import is_own_folder
from infra.local.errors import StackError

# The one capability that is left where the server's user cannot get at its files otherwise, because the checkout is in
# a folder that only root enters (/root, `mktemp -d`): to search folders and to read. Nothing lets it write elsewhere.
READ_ALL = "dac_read_search"
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


def let_in(uid: int, home: Path, binaries: Path) -> bool:
    """Give the folder of the data to the server's user; return whether that user gets at data and binaries now.

    The folder stays closed to everyone else. Root enters it all the same.
    """
    if is_own_folder(home):
        os.chown(home, uid, -1)
    command = ["sh", "-c", 'cd "$0" && test -x "$1"', str(home), str(binaries / "postgres")]
    return subprocess.run(run_as(uid, command), capture_output=True).returncode == 0


def run_as(
    uid: int | None,
    command: list[str],
    *,
    parent_death: signal.Signals = signal.SIGKILL,
    may_read_all: bool = False,
) -> list[str]:
    """Return the command that runs `command` as that user, without any capability of root's.

    With `may_read_all` it keeps the right to read every file.
    """
    if uid is None:
        return command
    if sys.platform != "linux" or shutil.which("setpriv") is None:
        raise StackError(
            NO_WAY.format(why="`setpriv` (Linux, package util-linux) is not here to run it as another user")
        )
    kept = f"-all,+{READ_ALL}" if may_read_all else "-all"
    # The change of user clears the parent-death signal that launch.py asked for, so setpriv asks again.
    options = [
        f"--reuid={uid}",
        f"--regid={_group(uid)}",
        "--clear-groups",
        f"--inh-caps={kept}",
        f"--bounding-set={kept}",
        "--no-new-privs",
        f"--pdeathsig={parent_death.name[3:]}",
    ]
    if may_read_all:
        # Postgres finds its own binary with access(2), which ignores an ordinary user's capabilities unless told.
        options += [f"--ambient-caps={kept}", "--securebits=+no_setuid_fixup"]
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
        raise StackError(f"user id {uid} has no name in /etc/passwd, and Postgres needs one: add it.") from None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
