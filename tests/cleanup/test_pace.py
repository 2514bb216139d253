"""How fast a run may go: by what its batches measured."""

import pytest

from api.cleanup.pace import Pace


def test_an_idle_database_gets_no_pause_and_a_second_lane_once_there_is_a_backlog() -> None:
    pace = Pace()
    allowed = []
    for rows in (1, 500, 1000):
        pace.measured(0, rows=rows)
        allowed.append(pace.allows_second_lane)
    assert allowed == [False, False, True]
    assert pace.pause_seconds(250) == 0


def test_others_at_work_end_the_second_lane_and_get_pauses() -> None:
    pace = Pace(rows=5000)
    pace.measured(1, rows=2000)
    assert not pace.allows_second_lane
    assert 0 < pace.pause_seconds(200) < 0.2


def test_beside_a_crowd_a_pause_is_as_long_as_the_batch() -> None:
    pace = Pace(others=9)
    assert pace.pause_seconds(200) == pytest.approx(0.2)


def test_batches_are_short_where_somebody_may_wait_for_them() -> None:
    assert Pace(others=0.5).batch_milliseconds < Pace().batch_milliseconds / 2


def test_one_glimpse_of_somebody_is_forgotten() -> None:
    pace = Pace(rows=5000)
    pace.measured(0.5, rows=2000)
    for _ in range(5):
        pace.measured(0, rows=2000)
    assert pace.allows_second_lane
