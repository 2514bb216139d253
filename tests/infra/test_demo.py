"""`make demo`, as its README says: a night's cleanup on a stack of its own, and the proof of what was kept."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_proves_what_it_shows_and_leaves_nothing_behind(tmp_path: Path) -> None:
    hosted = {
        "SUPABASE_URL": "https://not-this-one.invalid",
        "SESSION_TIMEOUT_HOURS": "5000",
        "CRON_SECRET": "short",
    }
    environ = os.environ | {"LULL_HOME": str(tmp_path)} | hosted
    shown = subprocess.run(
        [sys.executable, "-m", "infra", "demo"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "abandoned-drafts" in shown.stdout
    assert shown.stdout.count("  ok  ") == 5
    assert "WRONG" not in shown.stdout
    assert list(tmp_path.iterdir()) == []
    running = subprocess.run(["ps", "-eo", "command="], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running
