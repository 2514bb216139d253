"""The health of the cleanup, without authentication: 503 while an alert's condition holds."""

from collections.abc import Callable

from api.errors import Problem
from api.http.cleanup_facts import CleanupFacts
from api.insight.schemas import CleanupHealth

# In the order in which an operator should look at them, each with its problem.
_PROBLEMS: dict[str, Callable[[str], Problem]] = {
    "stuck": lambda said: Problem(503, "cleanup-stuck", said),
    "failing": lambda said: Problem(503, "cleanup-failing", said),
    "breaker": lambda said: Problem(503, "breaker-open", said),
    "dead-letter": lambda said: Problem(503, "dead-letters", said),
    "remainder": lambda said: Problem(503, "archive-remainders", said),
    "falling-behind": lambda said: Problem(503, "cleanup-behind", said),
    "late": lambda said: Problem(503, "cleanup-late", said),
    "paused-long": lambda said: Problem(503, "paused-long", said),
}


def cleanup_health(facts: CleanupFacts) -> CleanupHealth:
    """The health of the cleanup. Raises Problem 503 while a condition holds: of several, the first in the order above
    names the problem. The members are the same numbers, and all conditions."""
    health = CleanupHealth.of(facts)
    members = health.model_dump(by_alias=True, exclude={"status"})
    for condition, problem_of in _PROBLEMS.items():
        holding = [alert.sentence for alert in facts.alerts if alert.condition == condition]
        if holding:
            said = {"late": facts.lateness(), "failing": facts.failure()}.get(condition)
            problem = problem_of(said or " ".join(holding[:3]))
            problem.members |= members
            raise problem
    return health
