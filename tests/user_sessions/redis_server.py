"""A Redis server of the tests' own, on a free port of loopback, without persistence."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from infra.local import ports

PROGRAM = shutil.which("redis-server")


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start a server; give its URL; stop it."""
    assert PROGRAM
    port = ports.find_free()
    command = [PROGRAM, "--port", str(port), "--bind", ports.HOST, "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        client = redis.Redis(ports.HOST, port)
        ends = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < ends, "redis-server does not answer"
        client.close()
        yield f"redis://{ports.HOST}:{port}/0"
    finally:
        process.terminate()
        process.wait(10)
