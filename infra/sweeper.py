"""The sweep of a host of one's own: a thread that warns and tells each minute."""

import logging
import time
from threading import Event, Thread

from api.database import Database
from api.errors import Problem
from api.rooms.sweep import EVERY_SECONDS, run_sweep
from api.settings import Settings

log = logging.getLogger("lull.serve")


class Sweeper(Thread):
    """Sweeps each minute until the process stops. Several instances may: what one has told, the others do not tell."""

    def __init__(self, database: Database, settings: Settings, stopping: Event) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._database = database
        self._settings = settings
        self._stopping = stopping

    def run(self) -> None:
        """Sweep and wait; repeat. Errors are logged, and do not end the thread."""
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                run_sweep(self._database, self._settings, caller="serve", is_stopping=self._stopping.is_set)
            except Problem as problem:
                log.error("sweep.failed", extra={"fields": {"type": problem.slug, "detail": problem.detail}})
            except Exception:
                log.exception("sweep.failed")
            self._stopping.wait(max(1, began + EVERY_SECONDS - time.monotonic()))
