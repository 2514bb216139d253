"""How many rows a batch takes."""

from api.cleanup.batches import BatchSize


def closing_in(size: BatchSize, poison: int) -> list[int]:
    """Play batches against rows of which the `poison`th (counted from 1) fails, until it is skipped."""
    asked: list[int] = []
    before = 0
    while True:
        rows = size.next()
        asked.append(rows)
        if before + rows < poison:
            before += rows
            size.succeeded(rows, rows, 250, 250)
        elif rows > 1:
            size.failed(rows)
        else:
            size.skipped()
            return asked


def proven() -> BatchSize:
    """What comes after the oldest row went alone."""
    size = BatchSize()
    assert size.next() == 1
    size.succeeded(1, 1, 5, 250)
    assert size.next() == 500
    return size


def test_a_slow_first_row_is_followed_by_few() -> None:
    size = BatchSize()
    size.succeeded(1, 1, 300, 250)
    assert size.next() == 1
    size.succeeded(1, 1, 100, 250)
    assert size.next() == 2


def test_it_grows_while_batches_are_fast_and_at_most_doubles() -> None:
    size = proven()
    size.succeeded(500, 500, 1, 250)
    assert size.next() == 1000
    for _ in range(9):
        size.succeeded(size.next(), size.next(), 1, 250)
    assert size.next() == 5000


def test_it_shrinks_when_batches_are_slow_and_at_most_halves() -> None:
    size = proven()
    size.succeeded(500, 500, 9999, 250)
    assert size.next() == 250
    size.succeeded(250, 250, 300, 250)
    assert size.next() == 208
    for _ in range(20):
        size.succeeded(size.next(), size.next(), 9999, 250)
    assert size.next() == 1


def test_a_short_batch_says_nothing_about_speed() -> None:
    size = proven()
    size.succeeded(500, 3, 1, 250)
    assert size.next() == 500


def test_a_failing_batch_is_halved_until_the_row_is_alone() -> None:
    assert closing_in(BatchSize(), 1) == [1]
    for poison in (2, 249, 250, 251, 499, 500):
        asked = closing_in(BatchSize(), poison)
        assert asked[:3] == [1, 500, 250]
        assert asked[-1] == 1
        assert len(asked) <= 20


def test_the_size_is_what_it_was_after_the_row_is_skipped() -> None:
    size = BatchSize()
    closing_in(size, 250)
    assert size.next() == 500


def test_after_a_time_out_rows_go_one_by_one_because_another_is_expensive() -> None:
    size = proven()
    size.failed(500, timed_out=True)
    for _ in range(499):
        assert size.next() == 1
        size.succeeded(1, 1, 5, 250)
    assert size.next() == 1
    size.skipped()
    assert size.next() == 1
    size.succeeded(1, 1, 1, 250)
    assert size.next() == 2


def test_a_very_large_batch_that_timed_out_is_closed_in_on_with_one_more_time_out() -> None:
    size = proven()
    size.failed(5000, timed_out=True)
    assert size.next() == 70
    size.failed(70, timed_out=True)
    assert size.next() == 1


def test_a_window_that_works_after_all_ends_without_a_skip() -> None:
    size = proven()
    size.failed(4)
    for expected in (2, 1, 1):
        assert size.next() == expected
        size.succeeded(expected, expected, 250, 250)
    assert size.next() == 500
