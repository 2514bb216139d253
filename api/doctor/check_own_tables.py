"""Checks of a team's own tables: whether policies can act on them, and what a restore could not bring back."""

from api.doctor.check_result import CheckResult, fail, ok, warn
from api.doctor.schemas import DatabaseState


def check_own_tables(database_state: DatabaseState) -> list[CheckResult]:
    """Every table on the list can be acted on, and names the tables below it; one line a fault."""
    found = []
    for table in database_state.own_tables:
        found += [
            fail("own tables", f"No policy acts on {table.name}: {reason}.", "mend it, or adopt or release the table")
            for reason in table.reasons
        ]
        found += [
            warn(
                "own tables",
                f"{below} below {table.name} is not named: its rows keep a session.",
                f"adopt {table.name} again with {below} in p_below",
            )
            for below in table.unnamed
        ]
        found += [
            warn(
                "own tables",
                f"The index {index} has the clock of the participants of {table.name}: each heartbeat writes an entry.",
                f"drop index {index}, if no query of yours needs it",
            )
            for index in table.seen_indexes
        ]
        found += [
            warn(
                "own tables",
                f"{', '.join(grant.roles)} may create triggers and foreign keys on {grant.table}: one would stop the "
                f"policies of {table.name}.",
                f"revoke trigger, references on {grant.table} from {', '.join(grant.roles)};",
            )
            for grant in table.grants
        ]
    many = len(database_state.own_tables)
    return found or [ok("own tables", f"{many} on the list; policies can act on all of them")]


def check_remainders(database_state: DatabaseState) -> list[CheckResult]:
    """No row waits in the archive because a restore could not bring it back."""
    found = [
        warn(
            "restores",
            f"{each.rows} rows of {each.target} could not come back: {'; '.join(each.reasons)}.",
            "mend the cause, then restore the same run or key again"
            + (f", before {each.purge_after}" if each.purge_after else ""),
        )
        for each in database_state.remainders
    ]
    return found or [ok("restores", "everything that was asked for came back")]
