"""Execute a program that ends with its parent process (on Linux).

`python -I -S launch.py PARENT SIGNAL command...` asks the kernel to send SIGNAL when the parent process ends,
and then replaces itself with the command, so that the command keeps the process id. So a parent that was
killed leaves no process behind. On other systems it only replaces itself with the command.
"""

import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal)
        if os.getppid() != parent:  # it ended before the line above
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
