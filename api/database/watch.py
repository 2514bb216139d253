"""Deadlines of calls that wait in C, where nothing of Python's can interrupt them."""

import time
from threading import Lock, Thread
from typing import Protocol

_LOOK_SECONDS = 0.1
_LOOKS_IN_VAIN = 10  # before the thread ends


class Waiting(Protocol):
    """A conversation with a server that has a deadline, on the monotonic clock."""

    deadline: float

    def hang_up(self) -> None:
        """End it at once, from another thread."""


class DeadlineWatch:
    """Hangs up where a server has not answered in time, within a tenth of a second.

    Its thread begins with the first call and ends a second after the last: nothing goes on in an instance without
    calls. After a freeze it hangs up on what has passed its deadline, as it would have before.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: set[Waiting] = set()
        self._is_looking = False

    def add(self, waiting: Waiting) -> None:
        """Watch a conversation from now on. Raises RuntimeError where the process may have no further thread."""
        with self._lock:
            if not self._is_looking:
                Thread(target=self._look, name="database deadlines", daemon=True).start()
                self._is_looking = True
            self._waiting.add(waiting)

    def remove(self, waiting: Waiting) -> None:
        """Watch it no longer. It is not hung up on after this, nor while this is called."""
        with self._lock:
            self._waiting.discard(waiting)

    def _look(self) -> None:
        in_vain = 0
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._lock:
                in_vain = 0 if self._waiting else in_vain + 1
                for waiting in [each for each in self._waiting if each.deadline <= now]:
                    self._waiting.discard(waiting)
                    waiting.hang_up()
                if in_vain >= _LOOKS_IN_VAIN:
                    self._is_looking = False
                    return
