"""The batches of one open policy: one lane, and a second lane while the database is otherwise idle."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from api.cleanup.answers import Batch
from api.cleanup.run_client import Arguments, RunClient
from api.cleanup.throttle import Throttle
from api.errors import DatabaseTimeout

ROWS_SHARE = 0.8  # of the time budget; the rest is for files


class Lanes:
    """Processes the policies of a run, one after the other. `longest_batch` (s) carries over to the next policy."""

    def __init__(self, calls: RunClient, lease: Arguments, is_stopping: Callable[[], bool]) -> None:
        self.longest_batch = 0.0
        self._calls = calls
        self._lease = lease
        self._is_stopping = is_stopping

    def has_time(self) -> bool:
        """Whether a batch as long as the longest so far still fits into the time for rows."""
        return not self._is_stopping() and self._calls.time_left(ROWS_SHARE) > self.longest_batch

    def work(self, policy: str) -> None:
        """Delete a policy's rows until none is left or the time is up. Raises the error of either lane."""
        throttle = Throttle()
        second: Future[None] | None = None
        with ThreadPoolExecutor(1) as threads:
            lane = _Lane(self, policy, 1, throttle)
            while self.has_time() and not lane.batch():
                if second is None and throttle.allows_second_lane and not lane.has_failed:
                    second = threads.submit(copy_context().run, _Lane(self, policy, 2, throttle).work)
                elif second is not None and second.done():
                    second = second.result()  # raises that lane's error
            if second is not None:
                second.result()

    def run_batch(self, policy: str, lane: int, size: int | None, paused: float) -> Batch:
        """Delete one batch of `size` rows (None: as the database decides) and return the database's answer."""
        arguments = {**self._lease, "p_policy": policy, "p_lane": lane}
        began = self._calls.clock()
        try:
            batch = {**arguments, "p_size": size, "p_paused_ms": round(1000 * paused, 1), "p_own_transaction": True}
            answer = self._calls.call(Batch, "lull_cleanup_lane", batch)
        except DatabaseTimeout:
            # the time-out rolled back all that the batch did, and the renewal of the lease with it
            noted = self._calls.call(Batch, "lull_note_timeout", {**arguments, "p_size": size or 1})
            if (size or 1) > 1:
                return noted.model_copy(update={"failed": noted.failed or {}})
            # not repeated after a lost answer: a repetition would skip the following row too
            skip = {**arguments, "p_reason": "it took longer than a batch may take"}
            return self._calls.call_once(Batch, "lull_skip_lane_row", skip)
        self.longest_batch = max(self.longest_batch, self._calls.clock() - began)
        return answer

    def pause(self, seconds: float) -> float:
        """Wait these seconds, but not beyond the time for rows. Returns the seconds waited."""
        seconds = min(seconds, max(0, self._calls.time_left(ROWS_SHARE) - self.longest_batch))
        if seconds > 0:
            time.sleep(seconds)
        return seconds

    def end(self, policy: str, lane: int) -> None:
        """Tell the database that this lane takes no more rows."""
        arguments = {**self._lease, "p_policy": policy, "p_lane": lane, "p_size": 0}
        self._calls.call(Batch, "lull_cleanup_lane", arguments)


class _Lane:
    """Runs batches one at a time; each continues at the cursor of the one before."""

    def __init__(self, lanes: Lanes, policy: str, number: int, throttle: Throttle) -> None:
        self.has_failed = False  # a batch failed: the row that is to blame is being isolated, or was skipped
        self._lanes = lanes
        self._policy = policy
        self._number = number
        self._throttle = throttle
        self._size: int | None = None  # the database knows the lane's size
        self._paused = 0.0

    def batch(self) -> bool:
        """Delete one batch, then pause as the throttle says. Returns whether it was the lane's last batch."""
        asked, began = self._size, time.monotonic()
        answer = self._lanes.run_batch(self._policy, self._number, asked, self._paused)
        seconds, took = answer.ms / 1000, time.monotonic() - began
        self._size = answer.next_size
        full = answer.locked if answer.locked == asked else 0
        self._throttle.measured(is_alone=answer.alone, rows=full)
        self.has_failed |= answer.failed is not None
        self._paused = 0.0
        if answer.done:
            return True
        self._paused = self._lanes.pause(self._throttle.pause_seconds(seconds, took - seconds, answer.active))
        return False

    def work(self) -> None:
        """Run batches while the throttle allows a second lane.

        After a failed batch this lane continues to its end: the other lane skipped the rows that were locked here.
        """
        while self._lanes.has_time() and (self._throttle.allows_second_lane or self.has_failed):
            if self.batch():
                return
        self._lanes.end(self._policy, self._number)
