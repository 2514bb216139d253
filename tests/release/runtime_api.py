"""AWS Lambda's Runtime API, as far as one function needs it: hands out events one by one, and takes the answers.

The function runs under `awslambdaric`, the runtime client that AWS puts into its own images.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

from infra.local.environment import ROOT, for_children
from infra.local.ports import HOST
from infra.local.processes import Child

HANDLER = "infra.aws.lambda_entry.handler"


class RuntimeApi(ThreadingHTTPServer):
    """Serves one function; `invoke` waits for its answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.events: Queue[tuple[str, bytes] | None] = Queue()
        self.answers: dict[str, Queue[tuple[bool, Any]]] = {}

    def invoke(self, event: object, seconds: float = 60) -> Any:
        """Send an event, or bytes as they are; return what the function returned, raise RuntimeError with
        what it raised.
        """
        request = str(uuid.uuid4())
        self.answers[request] = Queue()
        self.events.put((request, event if isinstance(event, bytes) else json.dumps(event).encode()))
        is_good, answer = self.answers[request].get(timeout=seconds)
        if not is_good:
            raise RuntimeError(answer)
        return answer


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi

    def do_GET(self) -> None:
        """…/runtime/invocation/next: wait for an event."""
        event = self.server.events.get()
        if event is None:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", event[0])
        self.send_header("Lambda-Runtime-Deadline-Ms", "4102444800000")
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:1:function:lull")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(event[1])))
        self.end_headers()
        self.wfile.write(event[1])

    def do_POST(self) -> None:
        """…/runtime/invocation/{id}/response or /error."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        *_, request, kind = self.path.split("/")
        self.server.answers[request].put((kind == "response", body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextmanager
def lambda_function(
    environment: Mapping[str, str],
    log: Path,
    *,
    task: Path = ROOT,
    python: Sequence[str] = (sys.executable,),
    environ: Mapping[str, str] = os.environ,
) -> Iterator[RuntimeApi]:
    """The handler of the checkout, or of another `task` folder, in a process of its own, with these settings."""
    with RuntimeApi() as runtime:
        threading.Thread(target=runtime.serve_forever, daemon=True).start()
        settings = {name: value for name, value in environment.items() if name != "DATABASE_URL"}
        function = Child(
            "the Lambda function",
            [*python, "-m", "awslambdaric", HANDLER],
            environ=for_children(environ)
            | settings
            | {"AWS_LAMBDA_RUNTIME_API": f"{HOST}:{runtime.server_port}", "LAMBDA_TASK_ROOT": str(task)},
            cwd=task,
            log=log,
            stop_signal=signal.SIGKILL,  # it waits for its next event inside C, and AWS freezes it there
        )
        try:
            yield runtime
        finally:
            function.stop()
            runtime.events.put(None)
            runtime.shutdown()
