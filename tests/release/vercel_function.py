"""A built function, started by its own launcher as Vercel starts it: the test plays the platform at the other end."""

import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.local.processes import Child

SECONDS = 60  # a cold start compiles every package: two seconds of work, more on a busy machine


class Function:
    """A running function: what it tells the platform."""

    def __init__(self, listener: socket.socket) -> None:
        self._messages: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        self._listener = listener
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def port(self) -> int | None:
        """Return the port of the loopback address at which it listens, once it has said so."""
        with self._heard:
            started = [said for said in self._messages if said["type"] == "server-started"]
        return int(started[0]["payload"]["httpPort"]) if started else None

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first such message, when it is there."""
        with self._heard:
            assert self._heard.wait_for(lambda: any(map(wanted, self._messages)), SECONDS), self._messages
            return next(filter(wanted, self._messages))

    def wait_for_the_end(self) -> None:
        """Wait until everything was read that it sent before it ended."""
        self._reader.join(SECONDS)

    def _read(self) -> None:
        """Read messages, each a JSON text that ends in a zero byte, until the function ends."""
        try:
            connection, _ = self._listener.accept()
        except OSError:  # closed: it never started
            return
        with connection, connection.makefile("rb") as stream:
            rest = b""
            while chunk := stream.read1():
                *whole, rest = (rest + chunk).split(b"\0")
                for text in whole:
                    with self._heard:
                        self._messages.append(json.loads(text))
                        self._heard.notify_all()


@contextmanager
def running(
    task: Path, python: Path, config: Mapping[str, Any], settings: Mapping[str, str], log: Path
) -> Iterator[tuple[httpx.Client, Function]]:
    """Start the function in its folder; give a client that sends what Vercel's proxy would, and the function.

    `-S` hides the packages of that Python: there are only those of the bundle.
    """
    with (
        tempfile.TemporaryDirectory(prefix="lull-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        address = f"{folder}/ipc"
        listener.bind(address)
        listener.listen(1)
        listener.settimeout(SECONDS)
        function = Function(listener)
        launcher = config["handler"].rpartition(".")[0]
        environ = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "VERCEL": "1",
            "VERCEL_ENV": "production",
            "VERCEL_REGION": "iad1",
            "VERCEL_URL": "lull.vercel.app",
            **config["environment"],
            **settings,
            "VERCEL_IPC_PATH": address,
        }
        command = [str(python), "-s", "-S", "-c", f"import {launcher}"]
        child = Child("the function", command, environ=environ, cwd=task, log=log, stop_seconds=5)
        try:
            child.wait_ready(lambda: function.port is not None, SECONDS)
            headers = {"x-vercel-internal-invocation-id": "1", "x-vercel-internal-request-id": "1"}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{function.port}", headers=headers, timeout=60, trust_env=False
            ) as client:
                yield client, function
        finally:
            child.stop()
            function.wait_for_the_end()
