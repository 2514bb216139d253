"""The threshold by regret: the estimate against simulated users whose truth is known, and the way from use to a gap."""

import random
from bisect import bisect_right
from collections import Counter
from statistics import median, quantiles
from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from api.insight.regret import EDGES, Gap, estimate
from tests.callers import problem_of, start
from tests.calls import ADMIN, CLEANUP, add_session, settings
from tests.in_process import client_of

REGRET = "/api/admin/regret"
DAY = EDGES.index(24) + 1
HORIZON = EDGES[-1]
Sql = psycopg.Connection[Any]


class User:
    """Of two kinds: one comes back often and soon, the other seldom and late. A session ends when its user does not."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.often = draw.random() < 0.5

    def gap(self) -> float | None:
        """The hours until the next use; None: never."""
        if self.draw.random() >= (0.9 if self.often else 0.35):
            return None
        return self.draw.expovariate(1 / (6 if self.often else 40))


def edge(hours: float) -> int:
    return bisect_right(EDGES, hours)


def history(draw: random.Random, sessions: int) -> tuple[list[Gap], Counter[bool]]:
    """The gaps of sessions that began within 60 days before now, as the log knows them now; and the truth at 24 hours:
    of the sessions that were idle for so long, whether they come back within the horizon of their last use."""
    cells: Counter[tuple[int, int, str]] = Counter()
    truth: Counter[bool] = Counter()
    for _ in range(sessions):
        user, at, longest, crossed = User(draw), -draw.uniform(0, 60 * 24), 0.0, False
        while True:
            gap = user.gap()
            if not crossed and (gap is None or gap >= 24):
                crossed = True
                truth[gap is not None and gap < HORIZON] += 1
            if gap is None or at + gap > 0:
                if -at >= 1:
                    cells[edge(longest), edge(-at), "open"] += 1
                break
            if gap >= 1:
                cells[edge(longest), edge(gap), "returned"] += 1
            longest, at = max(longest, gap), at + gap
    return [Gap(before=b, reached=r, outcome=o, n=n) for (b, r, o), n in cells.items()], truth


@pytest.fixture(scope="module")
def true_regret() -> float:
    """By a population so large that its own error is below 1 %."""
    _, truth = history(random.Random(0), 200_000)
    return truth[True] / truth.total()


@pytest.mark.parametrize(
    ("sessions", "trials", "of"), [(1_000, 100, median), (10_000, 100, lambda errors: quantiles(errors, n=20)[-1])]
)
def test_it_is_right_about_users_who_differ(sessions: int, trials: int, of: Any, true_regret: float) -> None:
    errors, covered = [], 0
    for trial in range(trials):
        gaps, _ = history(random.Random(f"{sessions} {trial}"), sessions)
        found = estimate(gaps, DAY)
        assert found.regret is not None and found.low is not None and found.high is not None
        errors.append(abs(found.regret - true_regret) / true_regret)
        covered += found.low <= true_regret <= found.high
    assert of(errors) <= 0.10
    assert covered >= 0.85 * trials


def test_nothing_cut_short_is_returns_of_crossings() -> None:
    gaps = [
        Gap(before=0, reached=DAY, outcome="returned", n=3),
        Gap(before=0, reached=len(EDGES), outcome="open", n=97),
        Gap(before=DAY, reached=DAY + 1, outcome="returned", n=50),  # crossed 24 hours before
        Gap(before=0, reached=DAY - 1, outcome="returned", n=900),
    ]
    found = estimate(gaps, DAY)
    assert (found.crossings, found.returned) == (100, 3)
    assert found.regret == pytest.approx(0.03)
    assert found.low is not None and found.high is not None and found.low < 0.03 < found.high < 0.1
    assert estimate([], DAY).regret is None


def age(sql: Sql, session: str, hours: float) -> None:
    """Let a session and its history become older."""
    for change in (
        "update lull.sessions set last_activity_at = last_activity_at - %s::interval where id = %s",
        "update lull.session_participants set last_seen_at = last_seen_at - %s::interval where session_id = %s",
        "update lull.session_events set at = at - %s::interval where session_id = %s",
    ):
        sql.execute(change, (f"{hours} hours", session))


def gaps_of(sql: Sql, kind: str = "chat", status: str = "draft") -> dict[tuple[int, int, str], int]:
    row = sql.execute("select public.lull_regret(%s, %s) as x", (kind, status)).fetchone()
    assert row is not None
    return {(each["before"], each["reached"], each["outcome"]): each["n"] for each in row["x"]["gaps"]}


def test_a_return_a_deletion_and_a_late_return(
    environment: dict[str, str], sql: Sql
) -> None:
    """A draft that its user comes back to before and after the cleanup; one that stays away; one idle now."""
    with client_of(create_app(settings(environment, enable_early_session_creation="true"))) as api:
        comes, headers = start(api)
        session = comes.rpartition("/")[2]
        age(sql, session, 5)
        assert api.post(f"{comes}/files", json={"name": "a.txt", "contentType": "text/plain", "size": 1},
                        headers=headers).status_code == 201  # fmt: skip
        assert gaps_of(sql) == {(0, edge(5), "returned"): 1}
        away = add_session(sql, age="25 h")
        add_session(sql, age="3 h")
        age(sql, session, 25)
        assert api.post(CLEANUP, headers=ADMIN).json()["deleted"] == 2
        cut = {(0, edge(5), "returned"): 1, (0, DAY, "censored"): 1, (edge(5), DAY, "censored"): 1, (0, 3, "open"): 1}
        assert gaps_of(sql) == cut
        sql.execute("select public.lull_roll_up()")
        assert gaps_of(sql) == cut
        age(sql, session, 20)
        assert api.post(f"{comes}/activate", headers=headers).status_code == 200
        late = cut | {(edge(5), edge(45), "returned"): 1}
        del late[edge(5), DAY, "censored"]
        assert gaps_of(sql) == late
        sql.execute("select public.lull_roll_up()")
        assert gaps_of(sql) == late
        restore = {"target": "lull.sessions", "ids": [away]}
        assert api.post("/api/admin/archive/restore", json=restore, headers=ADMIN).json()["restored"] == 1
        assert gaps_of(sql) == late, "an operator's restore is no return"


def test_without_thirty_days_there_is_no_recommendation_and_with_them_one(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    empty = api.get(REGRET, headers=admin).json()
    assert (empty["enough"], empty["recommendedHours"], empty["presentHours"]) == (False, None, 24)
    assert empty["reason"] == "Not enough data yet: 0 days of events, and 30 are needed."
    sql.execute(
        "insert into lull.session_events (session_id, kind, event, at) "
        "values (gen_random_uuid(), 'chat', 'created', now() - interval '31 days')"
    )
    assert "0 sessions were idle for that long" in api.get(REGRET, headers=admin).json()["reason"]
    sql.execute(
        "insert into lull.idle_gaps (kind, status, day, before, reached, outcome, n) values "
        "('chat', 'draft', current_date, 0, %s, 'returned', 50), ('chat', 'draft', current_date, 0, %s, 'returned', 3), "
        "('chat', 'draft', current_date, 0, 17, 'censored', 947)",
        (DAY, DAY + 3),
    )
    found = api.get(REGRET, headers=admin).json()
    assert (found["enough"], found["reason"], found["recommendedHours"]) == (True, None, 36)
    assert found["warning"].startswith("The present age of 24 h takes at least 4.")
    assert found["warning"].endswith("more than the 1 % you chose. 36 h would not.")
    point = next(each for each in found["curve"] if each["hours"] == 24)
    assert point["sentence"] == "24 h would have taken 53 that came back, of 1,000."
    generous = api.get(f"{REGRET}?regret=0.1", headers=admin).json()
    assert (generous["warning"], generous["recommendedHours"]) == (None, 1)
    assert problem_of(api.get(f"{REGRET}?regret=0", headers=admin)) == (422, "invalid-request")
    assert problem_of(api.get(REGRET)) == (401, "unauthorized")
