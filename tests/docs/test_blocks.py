"""What is shown and is not so is found: the checks of the pages' blocks, on wrong ones."""

import json
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of, check_json, check_lines, check_table
from tests.docs.test_pages import is_only_checked

REAL = json.loads(
    '{"status": "ok", "count": 3, "at": "2026-11-20T12:00:00Z", "next": null, "rows": [{"id": "a1", "held": true}]}'
)


@pytest.mark.parametrize(
    "shown",
    [
        '{"status": "late", "…": "…"}',
        '{"status": "ok"}',
        '{"gone": 1, "…": "…"}',
        '{"count": "3", "…": "…"}',
        '{"count": true, "…": "…"}',
        '{"next": "b", "…": "…"}',
        '{"at": null, "…": "…"}',
        '{"rows": [{"id": "b2", "held": false}], "…": "…"}',
        '{"rows": [{"id": "b2"}], "…": "…"}',
    ],
)
def test_an_answer_that_is_not_the_real_one_is_found(shown: str) -> None:
    with pytest.raises(AssertionError):
        check_json(json.loads(shown), REAL, "here")


def test_an_answer_may_differ_in_numbers_and_times_and_leave_out_what_it_says_it_does() -> None:
    check_json(
        json.loads('{"status": "ok", "count": 7, "at": "2030-01-01T00:00:00Z", "…": "…"}'), REAL, "here"
    )
    check_json(json.loads('{"rows": [{"id": "b2", "…": "…"}], "…": "…"}'), REAL, "here")


def test_a_line_that_does_not_come_or_comes_too_early_is_found() -> None:
    real = "ok    reach  it answers in 31 ms\nfail  runs   none\n"
    check_lines("ok  reach  … in 212 ms\nfail  runs  none", real, "here")
    for shown in ("ok  runs  none", "fail  runs  none\nok  reach  … in 212 ms"):
        with pytest.raises(AssertionError):
            check_lines(shown, real, "here")


def test_a_table_of_other_columns_or_without_its_rows_is_found() -> None:
    shown = " name | size\n------+------\n a | 1\n"
    check_table(shown, ["name", "size"], 2, "here")
    for columns, rows in ((["name", "bytes"], 2), (["name", "size"], 0)):
        with pytest.raises(AssertionError):
            check_table(shown, columns, rows, "here")


@pytest.mark.parametrize(
    "page", ["```sh\ncurl x\n", "```json\n{}\n```\n", "```sh\ncurl x\n```\n# Next\n```text\ny\n```\n"]
)
def test_a_block_that_is_open_or_an_answer_to_nothing_is_found(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(AssertionError):
        blocks_of(path)


@pytest.mark.parametrize(
    "command", ["rm -rf .", "vercel env add CRON_SECRE production", "curl x\nvercel link"]
)
def test_an_untested_command_is_found(command: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"```sh\n{command}\n```\n")
    with pytest.raises(AssertionError):
        is_only_checked(blocks_of(path)[0])
