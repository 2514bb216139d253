"""`python -m infra dev` as an operator runs it: a process of its own, watched from outside."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local import ports
from infra.local.environment import ROOT

MARK = "LULL_TEST_MARK"


def _heed_signals() -> None:
    # What a background job of a shell (SIGINT) or nohup (SIGHUP) leaves ignored would stay so: they must arrive here.
    for asked in (signal.SIGINT, signal.SIGHUP):
        signal.signal(asked, signal.SIG_DFL)


class DevProcess:
    """One `infra dev`; every process it starts inherits a mark in its environment."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        *,
        port: int | None = None,
        prefix: Sequence[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.port = port or ports.find_free()
        self.output_file = home.with_name(f"{home.name}.output")
        self._mark = str(uuid.uuid4())
        own = {"LULL_HOME": str(home), "PORT": str(self.port), MARK: self._mark}
        with self.output_file.open("wb") as output:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "infra", "dev", *arguments],
                cwd=ROOT,
                env={**os.environ, **own, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_heed_signals,
            )

    def __enter__(self) -> "DevProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(30)

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def wait_for(self, text: str) -> str:
        """Wait until the output has the text, and return the output."""
        deadline = time.monotonic() + 60
        while text not in self.output:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return self.output

    def wait_ready(self) -> Mapping[str, str]:
        """Wait until it is ready, and return what dev.env says."""
        self.wait_for("Lull is ready")
        lines = (self.home / "dev.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def send(self, asked: signal.Signals) -> None:
        self._process.send_signal(asked)

    def exit_code(self) -> int:
        """Wait until it has ended, and return its exit code."""
        return self._process.wait(30)

    def left_behind(self) -> list[str]:
        """Return the processes that it started and that are alive now."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                belongs = mark in (process / "environ").read_bytes() or str(self.home).encode() in command
                belongs = belongs or (process / "cwd").readlink().is_relative_to(self.home)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if belongs and command and "State:\tZ" not in (process / "status").read_text():
                found.append(f"{process.name} {command.replace(bytes(1), b' ').decode()}")
        return found


def wait_until_gone(dev: DevProcess) -> None:
    """Wait for a moment, as processes end a little after the signal that their parent's death sent them."""
    deadline = time.monotonic() + 10
    while left := dev.left_behind():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
