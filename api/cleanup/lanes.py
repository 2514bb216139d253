"""The batches of one open policy: in one lane, and in a second one while nobody else needs the database."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from api.cleanup.batches import BatchSize
from api.cleanup.pace import Pace
from api.cleanup.patience import Patience
from api.errors import DatabaseTimeout

ROWS_SHARE = 0.8  # of the time budget; the rest is for files


class Lanes:
    """Works the policies of a run, one after the other; what it learnt of one holds for the next."""

    def __init__(self, calls: Patience, lease: dict[str, Any], is_stopping: Callable[[], bool]) -> None:
        self.longest_batch = 0.0
        self._calls = calls
        self._lease = lease
        self._is_stopping = is_stopping

    def has_time(self) -> bool:
        """Whether another batch, as long as the longest so far, fits into the time for rows."""
        return not self._is_stopping() and self._calls.time_left(ROWS_SHARE) > self.longest_batch

    def work(self, policy: str) -> None:
        """Delete a policy's rows until none is left or the time is up. Raises what any lane raised."""
        pace, size = Pace(), BatchSize()
        second: Future[None] | None = None
        with ThreadPoolExecutor(1) as threads:
            lane = _Lane(self, policy, 1, pace, size)
            while self.has_time() and not lane.batch():
                if second is None and pace.allows_second_lane and size.is_steady:
                    second = threads.submit(_Lane(self, policy, 2, pace, size.sibling()).work)
                elif second is not None and second.done():
                    second = second.result()  # raises what went wrong there
            if second is not None:
                second.result()

    def run_batch(
        self, policy: str, lane: int, size: BatchSize, paused: float, pace: Pace
    ) -> dict[str, Any]:
        """Delete one batch and let `size` learn from it; return the database's answer."""
        rows = size.next()
        arguments = {**self._lease, "p_policy": policy, "p_lane": lane}
        began = self._calls.clock()
        try:
            batch = {**arguments, "p_size": rows, "p_paused_ms": round(1000 * paused, 1)}
            answer = self._calls.call("lull_cleanup_lane", batch)
        except DatabaseTimeout:
            self._calls.call("lull_renew_lease", self._lease)  # the time-out undid the batch's own renewal
            if rows > 1:
                size.failed(rows, timed_out=True)
                return {"done": False, "others": 0, "ms": 0, "locked": 0}
            # not repeated after a lost answer: that would step over the row behind it, too
            skip = {**arguments, "p_reason": "it took longer than a batch may take"}
            answer = self._calls.call_once("lull_skip_lane_row", skip)
        else:
            self.longest_batch = max(self.longest_batch, self._calls.clock() - began)
        if answer["skipped"] is not None:
            size.skipped()
        elif answer["failed"] is not None:
            size.failed(answer["failed"]["size"])
        else:
            weight = pace.weight_milliseconds(rows, answer["ms"], answer["wal"])
            size.succeeded(rows, answer["locked"], weight, pace.batch_milliseconds)
        return answer

    def pause(self, seconds: float) -> float:
        """Wait, but not beyond the time for rows; return the seconds waited."""
        seconds = min(seconds, max(0, self._calls.time_left(ROWS_SHARE) - self.longest_batch))
        if seconds > 0:
            time.sleep(seconds)
        return seconds

    def end(self, policy: str, lane: int) -> None:
        """Tell the database that a lane takes no more rows."""
        arguments = {**self._lease, "p_policy": policy, "p_lane": lane, "p_size": 0}
        self._calls.call("lull_cleanup_lane", arguments)


class _Lane:
    """One batch at a time, each behind the one before."""

    def __init__(self, lanes: Lanes, policy: str, number: int, pace: Pace, size: BatchSize) -> None:
        self._lanes = lanes
        self._policy = policy
        self._number = number
        self._pace = pace
        self._size = size
        self._paused = 0.0
        self._has_failed = False

    def batch(self) -> bool:
        """Delete one batch, wait as long as the others need; return whether it was the lane's last."""
        asked = self._size.next()
        answer = self._lanes.run_batch(self._policy, self._number, self._size, self._paused, self._pace)
        full = answer["locked"] if answer["locked"] == asked else 0
        self._pace.measured(float(answer["others"]), rows=full)
        self._has_failed |= not self._size.is_steady
        self._paused = 0.0
        if answer["done"]:
            return True
        self._paused = self._lanes.pause(self._pace.pause_seconds(answer["ms"]))
        return False

    def work(self) -> None:
        """Go on while nobody else needs the database.

        After a batch that failed it goes on to the end: the other lane has passed over what was locked here.
        """
        while self._lanes.has_time() and (self._pace.allows_second_lane or self._has_failed):
            if self.batch():
                return
        self._lanes.end(self._policy, self._number)
