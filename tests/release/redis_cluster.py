"""A Redis Cluster of three primaries with a replica each, on free ports of loopback, without persistence."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from infra.local import ports
from tests.user_sessions.redis_server import PROGRAM

NODE_TIMEOUT_MS = 2000
SLOTS = 16384
PRIMARIES = 3


class Node:
    """One server of the cluster; it can be killed and started again with the same place in it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = ports.find_free()
        self._folder = folder
        self._bus_port = ports.find_free()
        self._client: redis.Redis = redis.Redis(ports.HOST, self.port, socket_timeout=5, decode_responses=True)
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        assert PROGRAM
        options = {
            "port": self.port, "bind": ports.HOST, "save": "", "dir": self._folder, "cluster-enabled": "yes",
            "cluster-port": self._bus_port, "cluster-node-timeout": NODE_TIMEOUT_MS, "repl-diskless-sync-delay": 0,
        }  # fmt: skip
        command = [PROGRAM, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: bool(self.ask("PING")), 10)

    def kill(self) -> None:
        """End the server without a word to anyone."""
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        """Kill the server, and close the connections to it."""
        self.kill()
        self._client.close()

    def ask(self, *command: str | int) -> Any:
        """The answer to a command; None while the server does not answer."""
        client: Any = self._client
        try:
            return client.execute_command(*command)
        except redis.ConnectionError:
            return None

    def is_primary(self) -> bool:
        """Whether the server says that it is one."""
        role = self.ask("ROLE")
        return bool(role) and role[0] == "master"

    def replicas(self) -> int:
        """How many replicas are connected and follow."""
        role = self.ask("ROLE")
        return len(role[2]) if role and role[0] == "master" else 0


class Cluster:
    """The running nodes: the first three begin as primaries, the three after them as their replicas in this order."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    def url(self, node: int) -> str:
        """The address of the cluster, by one of its nodes."""
        return f"redis+cluster://{ports.HOST}:{self.nodes[node].port}"

    def join(self) -> None:
        """Make a cluster of the nodes, and wait until every replica follows its primary."""
        first, *others = self.nodes
        for node in others:
            node.ask("CLUSTER", "MEET", ports.HOST, first.port, first._bus_port)
        for index, node in enumerate(self.nodes[:PRIMARIES]):
            begin, end = (SLOTS * place // PRIMARIES for place in (index, index + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        wait_until(lambda: all(int(self._info(node)["cluster_known_nodes"]) == len(self.nodes) for node in self.nodes))
        for primary, replica in zip(self.nodes[:PRIMARIES], self.nodes[PRIMARIES:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        wait_until(lambda: all(self._info(node)["cluster_state"] == "ok" for node in self.nodes))
        wait_until(lambda: all(node.replicas() == 1 for node in self.nodes[:PRIMARIES]))

    def _info(self, node: Node) -> dict[str, str]:
        lines: str = node.ask("CLUSTER", "INFO")
        return dict(line.split(":", 1) for line in lines.split() if ":" in line)


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster; stop its nodes in the end."""
    nodes: list[Node] = []
    try:
        nodes.extend(Node(folder / f"node-{number}") for number in range(2 * PRIMARIES))
        cluster = Cluster(nodes)
        cluster.join()
        yield cluster
    finally:
        for node in nodes:
            node.stop()


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> float:
    """Wait until something holds; return when that was (`time.monotonic`)."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"it did not come to hold within {seconds} s"
        time.sleep(0.02)
    return time.monotonic()
