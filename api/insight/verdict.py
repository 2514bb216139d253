"""What a check of the doctor says: a line for a person who was woken up, and a status for a program."""

from datetime import datetime
from typing import Literal

from api.wire import Answer

_NOT_CHECKED = "not checked: "


class Verdict(Answer):
    """One line. `mend` is what to do about it, as a sentence or a command."""

    check: str
    status: Literal["ok", "warn", "fail"]
    message: str
    mend: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether the check could not be made."""
        return self.message.startswith(_NOT_CHECKED)


def ok(check: str, message: str) -> Verdict:
    """Nothing to do."""
    return Verdict(check=check, status="ok", message=message)


def warn(check: str, message: str, mend: str | None = None) -> Verdict:
    """It works; somebody should look at it by day."""
    return Verdict(check=check, status="warn", message=message, mend=mend)


def fail(check: str, message: str, mend: str) -> Verdict:
    """It does not work, or is not safe."""
    return Verdict(check=check, status="fail", message=message, mend=mend)


def not_checked(check: str, why: str) -> Verdict:
    """Nothing is known: what it needs is out of reach. Told, because silence would read as ok."""
    return warn(check, f"{_NOT_CHECKED}{why}")


def shown(time: str | None) -> str:
    """A time as a sentence has it: to the second."""
    moment = datetime.fromisoformat(time) if time else None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else "never"


def some(things: list[str], most: int = 5) -> str:
    """The first few of these, and how many more there are."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(things[:most]) + more
