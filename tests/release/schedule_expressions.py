"""EventBridge Scheduler's recurring expressions, by the rules of its documentation. Nothing else here knows them:
cfn-lint takes any text, and so does ministack.
"""

import re

_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_FIELDS = {
    "minutes": (0, 59, []),
    "hours": (0, 23, []),
    "day of month": (1, 31, []),
    "month": (1, 12, _MONTHS),
    "day of week": (1, 7, _DAYS),
    "year": (1970, 2199, []),
}


def seconds_of(expression: str) -> int:
    """Return the seconds of a rate; raise ValueError for what is none."""
    rate = re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)(s?)\)", expression)
    if rate is None:
        raise ValueError(f"{expression!r} is no rate: rate(1 minute), rate(15 minutes), rate(2 hours)")
    value, unit, plural = int(rate[1]), rate[2], rate[3]
    if (value == 1) == bool(plural):
        raise ValueError(f"{expression!r}: 1 has the singular {unit}, more the plural {unit}s")
    return value * _UNITS[unit]


def check(expression: str) -> None:
    """Raise ValueError, with the reason, unless a schedule can recur by this expression."""
    cron = re.fullmatch(r"cron\((.*)\)", expression)
    if cron is None:
        seconds_of(expression)
        return
    fields = cron[1].split(" ")
    if len(fields) != len(_FIELDS):
        raise ValueError(f"{expression!r} has {len(fields)} fields, not {', '.join(_FIELDS)}")
    for (name, (low, high, names)), text in zip(_FIELDS.items(), fields, strict=True):
        for part in text.split(","):
            if not _is_part(name, part, low, high, names):
                raise ValueError(f"{expression!r}: {part!r} is no {name}")
    if [fields[2], fields[4]].count("?") != 1:
        raise ValueError(f"{expression!r}: exactly one of day of month and day of week is ?")


def _is_part(name: str, part: str, low: int, high: int, names: list[str]) -> bool:
    if part == "?":
        return name.startswith("day")
    if name == "day of month" and re.fullmatch(r"L|([1-9]|[12]\d|3[01])W", part):
        return True
    if name == "day of week" and re.fullmatch(r"([1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(L|#[1-5])", part):
        return True
    span, _, step = part.partition("/")
    if "/" in part and not (step.isdecimal() and 1 <= int(step) <= high):
        return False
    if span == "*":
        return True
    ends = [names.index(end) + low if end in names else end for end in span.split("-")]
    if len(ends) > 2 or not all(str(end).isdecimal() and low <= int(end) <= high for end in ends):
        return False
    return int(ends[0]) <= int(ends[-1])
