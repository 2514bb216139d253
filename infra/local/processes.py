"""Direct child processes: started with a log, waited for, watched, and stopped for good."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.local.errors import StackError

LAUNCHER = Path(__file__).with_name("launch.py")
POLL_SECONDS = 0.02


class Child:
    """One child process.

    It runs in a session of its own: a Ctrl-C in the terminal reaches only the parent, which stops its
    children in order. On Linux it also dies when the parent's *thread* that started it ends; start children
    from the main thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log: Path | None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10,
    ) -> None:
        """Start the process; without a `log` it writes to the parent's output."""
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        launched = [
            sys.executable,
            "-I",
            "-S",
            str(LAUNCHER),
            str(os.getpid()),
            str(int(stop_signal)),
            *command,
        ]
        output = None if log is None else log.open("wb")
        try:
            self._process = subprocess.Popen(
                launched,
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, probe: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until the probe says yes; raise StackError when the process ends or the time is up."""
        deadline = time.monotonic() + seconds
        while not probe():
            if not self.alive:
                raise StackError(self.obituary())
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {seconds:g} s.{self._log_tail()}")
            time.sleep(POLL_SECONDS)

    def obituary(self) -> str:
        """Say how the process ended, with the end of its log."""
        code = self._process.poll()
        how = (
            f"was ended by signal {-code}"
            if code is not None and code < 0
            else f"ended with exit code {code}"
        )
        return f"{self.name} {how}.{self._log_tail()}"

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to stop, and end it when it does not."""
        if self.alive:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def _log_tail(self, lines: int = 15) -> str:
        if self.log is None or not self.log.exists():
            return ""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "".join(f"\n  | {line}" for line in tail) + f"\n  (from {self.log})"
