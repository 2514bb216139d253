"""Whether a connection that was idle may be used again."""

import select
import time

_LONGEST_IDLE_SECONDS = 60  # shorter than what networks and poolers forget a silent connection after


def is_usable(fileno: int, idle_since: float) -> bool:
    """Whether it was used not long ago, and the server has nothing to say: that would be its goodbye."""
    if time.monotonic() - idle_since > _LONGEST_IDLE_SECONDS:
        return False
    waiting = select.poll()
    waiting.register(fileno, select.POLLIN)
    return not waiting.poll(0)
