"""Words and numbers of the reports."""

import pytest

from api.cleanup.report import age_in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (42.9, "42 s"),
        (59.999, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (25 * 3600 + 3 * 60 + 59, "25 h 3 min"),
        (48 * 3600 - 1, "47 h 59 min"),
        (48 * 3600, "2 d 0 h"),
        (76 * 3600, "3 d 4 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_an_age_is_said_in_the_two_units_that_matter(seconds: float, words: str) -> None:
    assert age_in_words(seconds) == words
