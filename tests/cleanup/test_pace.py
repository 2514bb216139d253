"""How fast a run may go: by what its batches measured."""

import random

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
    assert pace.pause_seconds(200) == pytest.approx(0.2), "as long as the batch was"


def test_nobody_is_taken_for_absent_before_that_was_looked_for() -> None:
    assert not Pace(rows=5000).allows_second_lane
    assert Pace(rows=5000).batch_milliseconds == Pace(others=1).batch_milliseconds


def test_batches_are_short_where_somebody_may_wait_for_them() -> None:
    assert Pace(others=0.5).batch_milliseconds < Pace(others=0).batch_milliseconds / 2


def test_a_batch_that_wrote_much_wal_counts_as_longer_beside_others() -> None:
    beside, alone, megabytes = Pace(others=1), Pace(others=0), 4_000_000
    assert beside.weight_milliseconds(500, 10, 1000) == 10
    assert beside.weight_milliseconds(500, 10, megabytes) == 4 * beside.batch_milliseconds
    assert alone.weight_milliseconds(500, 10, megabytes) == 10


def test_a_batch_of_a_few_rows_is_not_made_smaller_for_wal_that_others_write() -> None:
    assert Pace(others=1).weight_milliseconds(25, 10, 4_000_000) == 10


def test_one_glimpse_of_somebody_is_forgotten() -> None:
    pace = Pace(others=0, rows=5000)
    pace.measured(0.5, rows=2000)
    for _ in range(10):
        pace.measured(0, rows=2000)
    assert pace.allows_second_lane


def test_traffic_that_most_looks_miss_is_not_taken_for_none() -> None:
    """Of short requests a look sees nobody most of the time, and five batches in a row may."""
    pace = Pace(rows=5000)
    looks = random.Random(1)
    pace.measured(1, rows=0)
    for _ in range(5000):
        pace.measured(sum(looks.random() < 0.3 for _ in range(2)) / 2, rows=500)
        assert not pace.is_alone


def test_a_crowd_that_has_gone_is_forgotten_as_soon_as_a_single_client() -> None:
    crowd, single = Pace(others=0), Pace(others=0)
    crowd.measured(16, rows=0)
    single.measured(1, rows=0)
    assert crowd == single
