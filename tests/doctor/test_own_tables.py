"""The doctor names a team's table that no policy can act on, tables below it that are not named, and rows not restored."""

from typing import Any

from api.doctor.check_own_tables import check_own_tables, check_remainders
from api.doctor.schemas import CodeGrant, DatabaseState, OwnTable, Remainder


def state(tables: list[OwnTable], remainders: list[Remainder]) -> DatabaseState:
    unread: dict[str, Any] = dict.fromkeys(DatabaseState.model_fields)
    return DatabaseState.model_construct(**{**unread, "own_tables": tables, "remainders": remainders})


def test_a_table_that_no_policy_can_act_on_fails_with_its_reason() -> None:
    table = OwnTable(name="public.talks", reasons=["it does not exist"], unnamed=["public.notes"])
    failed, warned = check_own_tables(state([table], []))
    assert (failed.status, "public.talks: it does not exist" in failed.message) == ("fail", True)
    assert (warned.status, "public.notes" in warned.message) == ("warn", True)


def test_roles_that_may_put_code_on_a_table_are_a_warning_with_the_statement_that_takes_the_right_away() -> None:
    grant = CodeGrant(table="public.notes", roles=["partner", "public"])
    (line,) = check_own_tables(state([OwnTable(name="public.talks", reasons=[], unnamed=[], grants=[grant])], []))
    assert (line.status, "partner, public may create triggers" in line.message) == ("warn", True)
    assert line.fix == "revoke trigger, references on public.notes from partner, public;"


def test_sound_tables_are_ok() -> None:
    (line,) = check_own_tables(state([OwnTable(name="public.talks", reasons=[], unnamed=[])], []))
    assert (line.status, line.message[0]) == ("ok", "1")


def test_rows_that_could_not_come_back_are_a_warning_until_they_are_back() -> None:
    remainder = Remainder(target="public.talks", rows=3, reasons=["the table is gone"], purge_after=None)
    (line,) = check_remainders(state([], [remainder]))
    assert (line.status, "3 rows of public.talks" in line.message) == ("warn", True)
    assert [line.status for line in check_remainders(state([], []))] == ["ok"]
