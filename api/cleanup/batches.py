"""How many rows the next batch takes."""

from dataclasses import dataclass, field
from math import isqrt

_FIRST = 500
_MOST = 5000
_SLOW_FIRST_ROW_MS = 250


@dataclass
class BatchSize:
    """Follows the time that a batch is to take, and closes in on a row that makes batches fail.

    The oldest row goes alone: one that takes for ever is the oldest from its second run on, and is found in
    one time-out then.

    The next `window` rows hold a row that fails. Each failure makes the window the batch that failed, each
    success takes the batch off it, and the next batch is at most half of it: so the row ends up alone and is
    skipped. After a time-out, which is expensive, rows go one by one; from a very large batch in portions.
    """

    usual: float = 1
    is_proven: bool = field(default=False, init=False)
    window: int = field(default=0, init=False)
    step: int = field(default=0, init=False)

    @property
    def is_steady(self) -> bool:
        """Whether batches work, and no row is being closed in on."""
        return self.is_proven and not self.window

    def sibling(self) -> "BatchSize":
        """Begin where this one is: for a second lane."""
        other = BatchSize(self.usual)
        other.is_proven = self.is_proven
        return other

    def next(self) -> int:
        """Rows to ask for now."""
        if self.window:
            return max(1, min(self.step, self.window // 2))
        return int(self.usual)

    def succeeded(self, size: int, rows: int, milliseconds: float, target_milliseconds: float) -> None:
        """Learn that a batch of `size` worked: twice the rows at most, half at least."""
        if self.window:
            self.window = max(0, self.window - rows)
        elif not self.is_proven:
            self.is_proven = True
            self.usual = _FIRST if milliseconds <= _SLOW_FIRST_ROW_MS else 1
        elif rows == size:
            factor = target_milliseconds / max(milliseconds, 1)
            self.usual = min(_MOST, max(1, self.usual * min(2, max(0.5, factor))))

    def failed(self, size: int, *, timed_out: bool = False) -> None:
        """Learn that a batch of `size` > 1 was rolled back."""
        self.window = size
        self.step = max(1, size // 2)
        if timed_out:
            self.usual = self.step = 1 if size <= _FIRST else isqrt(size)

    def skipped(self) -> None:
        """Learn that the row is found and stepped over."""
        self.window = 0
