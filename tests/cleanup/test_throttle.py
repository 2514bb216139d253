"""How fast a run may go: by what its batches said."""

import pytest

from api.cleanup.throttle import Throttle


def test_an_idle_database_gets_no_pause_and_a_second_lane_once_there_is_a_backlog() -> None:
    throttle = Throttle()
    allowed = []
    for rows in (1, 500, 1000):
        throttle.measured(is_alone=True, rows=rows)
        allowed.append(throttle.allows_second_lane)
    assert allowed == [False, False, True]
    assert throttle.pause_seconds(0.25, 0, active=3) == 0


def test_other_clients_end_the_second_lane_and_get_pauses() -> None:
    throttle = Throttle(rows=5000)
    throttle.measured(is_alone=False, rows=2000)
    assert not throttle.allows_second_lane
    assert throttle.pause_seconds(0.2, 0, active=0) == pytest.approx(0.1), "half as long as the batch was"
    assert throttle.pause_seconds(0.2, 0, active=1) == pytest.approx(0.2)
    assert throttle.pause_seconds(0.2, 0, active=90) == pytest.approx(0.8), "and four times as long beside many"
    assert throttle.pause_seconds(0.2, 0.15, active=1) == pytest.approx(0.05), "the way there and back is a pause"
    assert throttle.pause_seconds(0.2, 0.5, active=1) == 0


def test_the_database_is_not_idle_before_the_first_measurement() -> None:
    assert not Throttle(rows=5000).allows_second_lane
