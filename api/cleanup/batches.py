"""How many rows the next batch takes."""

from dataclasses import dataclass, field

_FIRST = 500
_MOST = 5000
_TARGET_MS = 250


@dataclass
class BatchSize:
    """Follows the time a batch takes, and closes in on a row that makes batches fail.

    The next `window` rows hold such a row. Each failure makes the window the batch that failed, each success
    takes the batch off it, and the next batch is at most half of it (a twentieth after a time-out, which is
    expensive): so the row ends up alone and is skipped.
    """

    usual: float = _FIRST
    window: int = field(default=0, init=False)
    step: int = field(default=0, init=False)

    def next(self) -> int:
        """Rows to ask for now."""
        if self.window:
            return max(1, min(self.step, self.window // 2))
        return int(self.usual)

    def succeeded(self, size: int, rows: int, milliseconds: float) -> None:
        """Learn that a batch of `size` worked: twice the rows at most, half at least."""
        if self.window:
            self.window = max(0, self.window - rows)
        elif rows == size:
            factor = _TARGET_MS / max(milliseconds, 1)
            self.usual = min(_MOST, max(1, self.usual * min(2, max(0.5, factor))))

    def failed(self, size: int, *, timed_out: bool = False) -> None:
        """Learn that a batch of `size` > 1 was rolled back."""
        self.window = size
        self.step = max(1, size // (20 if timed_out else 2))
        if timed_out:
            self.usual = self.step

    def skipped(self) -> None:
        """Learn that the row is found and stepped over."""
        self.window = 0
