"""How a contender's process talks with the runner: ready, a line to go, what it measured, end of input to go away."""

import json
import sys
import time
from collections.abc import Callable


def take_part(work: Callable[[], object]) -> None:
    """Do the work when told to, and say how long it took. The process stays until it was looked at."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    began = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    sys.stdin.read()
