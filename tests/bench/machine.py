"""What a run ran on: the commit, the versions, the machine. No names of hosts or folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from infra.local.environment import ROOT
from tests.bench.nodejs import Node
from tests.bench.servers import Servers

_PYTHON_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "supabase", "psycopg", "sqlalchemy", "django")
_NODE_PACKAGES = ("@supabase/supabase-js", "connect-pg-simple")
_WRITTEN_BY_A_RUN = ("docs/performance.md", "docs/performance/")


def about(servers: Servers) -> dict[str, str]:
    """Everything that a reader needs to judge or repeat the numbers."""
    packages = {name: version(name) for name in _PYTHON_PACKAGES}
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        **servers.versions(),
        **packages,
        **_installed(servers.node),
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.rstrip()

    changed = [line for line in git("status", "--porcelain").splitlines() if line[3:] not in _WRITTEN_BY_A_RUN]
    changed = [line for line in changed if not line[3:].startswith(_WRITTEN_BY_A_RUN[1])]
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" and uncommitted changes" if changed else "")


def _installed(node: Node) -> dict[str, str]:
    modules = node.scripts / "node_modules"
    found = {}
    for name in _NODE_PACKAGES:
        said = re.search(r'"version": *"([^"]+)"', (modules / name / "package.json").read_text())
        found[name] = said[1] if said else "unknown"
    return found


def _processor() -> str:
    try:
        said = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except FileNotFoundError:
        said = None
    return said[1] if said else platform.machine()
