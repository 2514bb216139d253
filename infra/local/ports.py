"""Free TCP ports on the loopback interface."""

import random
import socket

HOST = "127.0.0.1"
# Below the ranges of outgoing connections on Linux, macOS and the BSDs, so that a free port is not taken by an
# outgoing connection before its server has bound it.
CANDIDATES = range(20_000, 32_000)


def is_free(port: int, host: str = HOST) -> bool:
    """Say whether a server could listen on the port now."""
    if answers(port, host):  # binding alone would not notice a server on all addresses (Mac)
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers(port: int, host: str = HOST) -> bool:
    """Say whether a server listens on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        return caller.connect_ex((host, port)) == 0


def preferred(port: int) -> int:
    """Return this port where it is free, else a random free one."""
    return port if port < 65536 and is_free(port) else find_free()


def find_free() -> int:
    """Return a random port without a listening server."""
    while True:
        port = random.choice(CANDIDATES)  # noqa: S311
        if is_free(port):
            return port
