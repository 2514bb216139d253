"""The result of one check: a line for a person, and a status for a program."""

from typing import Literal

from api.http.schemas import Answer

_NOT_CHECKED = "not checked: "


class CheckResult(Answer):
    """One line of the report. `fix` is what to do, as a sentence or a command."""

    check: str
    status: Literal["ok", "warn", "fail"]
    message: str
    fix: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether the check could not be made."""
        return self.message.startswith(_NOT_CHECKED)


def ok(check: str, message: str) -> CheckResult:
    """Nothing to do."""
    return CheckResult(check=check, status="ok", message=message)


def warn(check: str, message: str, fix: str | None = None) -> CheckResult:
    """It works, and needs attention during working hours."""
    return CheckResult(check=check, status="warn", message=message, fix=fix)


def fail(check: str, message: str, fix: str) -> CheckResult:
    """It does not work, or it is not safe."""
    return CheckResult(check=check, status="fail", message=message, fix=fix)


def not_checked(check: str, why: str) -> CheckResult:
    """The check could not be made. It is reported, because a missing line would read as ok."""
    return warn(check, f"{_NOT_CHECKED}{why}")
