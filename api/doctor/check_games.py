"""Checks of games: keys that several share, and games that no process is given any more."""

from api.doctor.check_result import CheckResult, warn
from api.doctor.schemas import DatabaseState


def check_games(database_state: DatabaseState, recovery_limit: int) -> list[CheckResult]:
    """A line for each key that open games share, and for each game that the recovery passes over. None is no fault."""
    found = [
        warn(
            "games",
            f"{len(each.games)} open games share the key {each.key}: {', '.join(each.games)}.",
            "end all but one; they are from before keys were unique, and no new game gets this key",
        )
        for each in database_state.games.shared_keys
    ]
    return found + [
        warn(
            "games",
            f"The game {each.id} was recovered {each.times} times without a command, and is passed over.",
            "see whether it makes its owners crash; then claim it, or end it",
        )
        for each in database_state.games.recovered
        if each.times >= recovery_limit
    ]
