"""Stop in order on a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """This process was asked to stop (Ctrl-C, SIGTERM, SIGHUP); not an error."""


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise StopRequested where the program stands at the first signal, and ignore later ones.

    A signal that is ignored already (SIGHUP under nohup) stays ignored.
    """

    def stop(_: int, __: FrameType | None) -> None:
        for asked in handled:
            signal.signal(asked, signal.SIG_IGN)
        raise StopRequested

    before = {asked: signal.getsignal(asked) for asked in ASKED}
    handled = [asked for asked in ASKED if before[asked] is not signal.SIG_IGN]
    for asked in handled:
        signal.signal(asked, stop)
    try:
        yield
    finally:
        for asked in handled:
            signal.signal(asked, before[asked])
