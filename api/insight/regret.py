"""The threshold by regret: of the sessions that a run at some age takes, what share would have come back?

From facts, not from a model: gaps of idleness that ended with a return, and gaps that were cut short (deleted, or still
open), for which Kaplan-Meier allows. A run takes a session at its first gap of the age, so a session counts once at
each age, however often it comes back.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime

from pydantic import BaseModel

from api.database import Database
from api.insight.dashboard_schemas import Regret, RegretPoint

EDGES = (1, 2, 3, 4, 6, 9, 12, 16, 20, 24, 36, 48, 60, 72, 96, 120, 168)  # hours; the last is the horizon
LEAST_DAYS = 30  # of events: a younger system is read wrong
LEAST_CROSSINGS, LEAST_RETURNS, ENOUGH_CROSSINGS = 300, 30, 1000

_Z = 1.959964  # of a 95 % interval
_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8


class Gap(BaseModel):
    """`before`, `reached`: how many edges the longest earlier gap of the session, and this gap, have passed."""

    before: int
    reached: int
    outcome: str  # `returned`; `censored` or `open` when it is not known what would have followed
    n: int


class _Known(BaseModel):
    """`lull_regret`."""

    at: datetime
    first_day: date | None
    age_hours: float | None
    gaps: list[Gap]


class Estimate(BaseModel):
    """The regret at one age, as shares from 0 to 1; None where nothing crossed the age."""

    crossings: int
    returned: int
    regret: float | None = None
    low: float | None = None
    high: float | None = None


def estimate(gaps: Iterable[Gap], edge: int) -> Estimate:
    """Estimate the regret at `EDGES[edge - 1]` hours, with the 95 % interval (Greenwood's variance, log-log).

    Half of the gaps that were cut short between two edges count as at risk there.
    """
    first = [gap for gap in gaps if gap.before < edge <= gap.reached]
    crossings = at_risk = sum(gap.n for gap in first)
    returned, stays, variance = 0, 1.0, 0.0
    for place in range(edge, len(EDGES)):
        here = [gap for gap in first if gap.reached == place]
        back = sum(gap.n for gap in here if gap.outcome == "returned")
        gone = sum(gap.n for gap in here) - back
        exposed = at_risk - gone / 2
        if back > 0 and exposed > 0:
            stays *= max(0.0, 1 - back / exposed)
            variance += back / (exposed * (exposed - back)) if exposed > back else math.inf
        returned += back
        at_risk -= back + gone
    if crossings <= 0:
        return Estimate(crossings=0, returned=0)
    low, high = _interval(stays, variance, crossings)
    return Estimate(crossings=crossings, returned=returned, regret=1 - stays, low=1 - high, high=1 - low)


def _interval(stays: float, variance: float, crossings: int) -> tuple[float, float]:
    """The interval of a share that stays."""
    if stays >= 1:  # no return: the rule of three
        return max(0.0, 1 - 3 / crossings), 1.0
    if stays <= 0 or not math.isfinite(variance):
        return 0.0, 1.0
    width = _Z * math.sqrt(variance) / abs(math.log(stays))
    return stays ** math.exp(width), stays ** math.exp(-width)


def read_regret(database: Database, kind: str, status: str, chosen: float) -> Regret:
    """Read the gaps of a kind and status, and estimate the regret at each age. `chosen`: the share that is accepted."""
    arguments = {"p_kind": kind, "p_status": status}
    known = _Known.model_validate(database.call("lull_regret", arguments, timeout_seconds=_TIMEOUT_SECONDS))
    estimates = [estimate(known.gaps, place) for place in range(1, len(EDGES))]
    days = (known.at.date() - known.first_day).days if known.first_day else 0
    present = _present(known.age_hours)
    reason = _too_little(days, estimates[(present or EDGES.index(24) + 1) - 1])
    recommended = None if reason else _recommended(estimates, chosen)
    warning = None
    if reason is None and present is not None and (low := estimates[present - 1].low) is not None and low > chosen:
        warning = (
            f"The present age of {known.age_hours:g} h takes at least {100 * low:.1f} % that would have come back, "
            f"more than the {100 * chosen:g} % you chose. "
            + (f"{recommended} h would not." if recommended else "No age up to 120 h would do better with certainty.")
        )
    return Regret(
        kind=kind,
        status=status,
        enough=reason is None,
        reason=reason,
        regret=chosen,
        present_hours=known.age_hours,
        recommended_hours=recommended,
        warning=warning,
        curve=[_point(hours, each) for hours, each in zip(EDGES, estimates, strict=False)],
    )


def _present(hours: float | None) -> int | None:
    """The number of edges that an age has passed; None below the first one and without an age."""
    passed = sum(edge <= hours for edge in EDGES[:-1]) if hours else 0
    return passed or None


def _too_little(days: int, at_present: Estimate) -> str | None:
    if days < LEAST_DAYS:
        return f"Not enough data yet: {days} days of events, and {LEAST_DAYS} are needed."
    few = at_present.crossings < LEAST_CROSSINGS or at_present.returned < LEAST_RETURNS
    if few and at_present.crossings < ENOUGH_CROSSINGS:
        return (
            f"Not enough data yet: {at_present.crossings} sessions were idle for that long and {at_present.returned} "
            f"of them came back; {LEAST_CROSSINGS} and {LEAST_RETURNS} are needed, or {ENOUGH_CROSSINGS} sessions."
        )
    return None


def _recommended(estimates: Sequence[Estimate], chosen: float) -> int | None:
    """The smallest age whose upper bound is within the chosen regret."""
    for hours, each in zip(EDGES, estimates, strict=False):
        if each.high is not None and each.high <= chosen:
            return hours
    return None


def _point(hours: int, found: Estimate) -> RegretPoint:
    said = f"{hours} h would have taken {found.returned:,} that came back, of {found.crossings:,}."
    return RegretPoint(hours=hours, sentence=said, **found.model_dump())
