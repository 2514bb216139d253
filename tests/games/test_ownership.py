"""Instances and the games that they own: leases, fences, displacement, restarts, recovery."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.callers import as_user, problem_of
from tests.games.calls import Games, Sql, age, expire_lease

CLEANUP = "/api/admin/cleanup-sessions?policy="


def recovered(games: Games, instance: str, incarnation: int, **body: Any) -> dict[str, Any]:
    answer = games.instance("recover", instance, incarnation, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["sessions"]]


def test_a_claimed_game_takes_commands_with_the_fence_of_its_claim_only(games: Games) -> None:
    game, incarnation = games.start(state={"n": 1}), games.open("bot-1")
    claimed = games.claim(game, incarnation).json()
    assert (claimed["fence"], claimed["session"]["instance"], claimed["session"]["state"]) == (1, "bot-1", {"n": 1})
    assert claimed["session"]["version"] == 1, "a claim is no change of the state"
    assert problem_of(games.command(game, 1)) == (409, "owner-displaced")
    assert games.command(game, 1, fence=1).json() == {"version": 2, "fence": 1, "replayed": False}


def test_a_released_game_takes_commands_without_a_fence_and_none_of_its_former_owner(games: Games) -> None:
    game, incarnation = games.start(), games.open()
    fence = games.owned(game, incarnation)
    wrong = games.move(game, "release", incarnation=incarnation, fence=fence + 1)
    assert (*problem_of(wrong), wrong.json()["fence"]) == (409, "owner-displaced", fence)
    assert games.move(game, "release", incarnation=incarnation, fence=fence).status_code == 204
    assert problem_of(games.command(game, 1, fence=fence)) == (409, "owner-displaced")
    assert games.command(game, 1).status_code == 200
    assert "instance" not in games.read(game)


def test_a_hung_owner_is_displaced_by_force_and_told_by_its_next_renewal(games: Games) -> None:
    """It renews its lease, and answers no command."""
    game, hung, fresh = games.start(), games.open("hung"), games.open("fresh")
    old = games.owned(game, hung)
    done = games.command(game, 1, commandId="c-1", fence=old)
    refused = games.claim(game, fresh)
    assert (*problem_of(refused), refused.json()["instance"]) == (409, "already-owned", "hung")
    assert games.instance("renew", "hung", hung).json()["displaced"] == []
    new = games.owned(game, fresh, force=True)
    late = games.command(game, 2, fence=old)
    assert (*problem_of(late), late.json()["fence"]) == (409, "owner-displaced", new)
    replay = games.command(game, 1, commandId="c-1", fence=old)
    assert replay.json() == {"version": done.json()["version"], "fence": new, "replayed": True}
    assert games.command(game, 2, fence=new).status_code == 200
    for _ in range(2):  # an answer may be lost: it is told until the game is its own again
        assert games.instance("renew", "hung", hung).json()["displaced"] == [game]
    games.owned(game, hung, force=True)
    assert games.instance("renew", "hung", hung).json()["displaced"] == []


def test_a_lease_that_ran_out_is_over_whether_its_games_were_taken_or_not(games: Games, sql: Sql) -> None:
    game, incarnation = games.start(), games.open("bot-1")
    games.owned(game, incarnation)
    expire_lease(sql, incarnation)
    for verb in ("renew", "recover"):
        assert problem_of(games.instance(verb, "bot-1", incarnation)) == (409, "instance-closed")
    assert problem_of(games.claim(game, incarnation)) == (409, "instance-closed")
    again = games.open("bot-1")
    assert ids(recovered(games, "bot-1", again)) == [game]


@pytest.mark.parametrize("how", ["closed", "opened again", "another name", "unknown"])
def test_an_incarnation_is_over_when_it_is_not_the_open_one_of_its_name(games: Games, how: str) -> None:
    incarnation, name = games.open("bot-1"), "bot-1"
    if how == "closed":
        for _ in range(2):
            assert games.instance("close", name, incarnation).status_code == 204
    elif how == "opened again":
        games.open("bot-1")
    elif how == "another name":
        name = "bot-2"
    else:
        incarnation += 1
    assert problem_of(games.instance("renew", name, incarnation)) == (409, "instance-closed")


def test_a_renewal_extends_the_lease_by_what_the_instance_asked_for(games: Games, sql: Sql) -> None:
    incarnation = games.open("bot-1", leaseSeconds=600)
    sql.execute("update lull.instances set lease_until = now() + interval '1 s'")
    assert games.instance("renew", "bot-1", incarnation).status_code == 200
    row = sql.execute("select extract(epoch from lease_until - now()) as left from lull.instances").fetchone()
    assert row is not None
    assert 590 < row["left"] <= 600
    for seconds in (9, 3601, "60"):
        assert games.post("/api/instances/bot-1/open", leaseSeconds=seconds).status_code == 422


def test_recovery_hands_out_its_own_names_games_first_then_the_longest_orphaned(games: Games, sql: Sql) -> None:
    order = []
    for instance, ended in (("bot-2", "1 min"), ("bot-3", "5 min"), ("bot-1", "1 s")):
        incarnation = games.open(instance)
        pair = [games.start(), games.start()]
        for game in pair:
            games.owned(game, incarnation)
        sql.execute(
            "update lull.instances set lease_until = now() - %s::interval where incarnation = %s", (ended, incarnation)
        )
        order.append(pair)
    fresh = games.open("bot-1")
    assert games.instance("renew", "bot-1", fresh).json()["orphans"] == 6
    first = recovered(games, "bot-1", fresh, limit=3)
    assert (ids(first), first["more"]) == ([*order[2], order[1][0]], 3)
    rest = recovered(games, "bot-1", fresh)
    assert (ids(rest), rest["more"]) == ([order[1][1], *order[0]], 0)
    assert {each["fence"] for each in first["sessions"] + rest["sessions"]} == {2}
    assert games.events(order[2][0])[-1]["data"] == {"instance": "bot-1", "fence": 2}


def test_paused_ended_held_back_and_stale_games_are_not_recovered(
    games: Games, sql: Sql, admin: dict[str, str]
) -> None:
    """A game past its timeout is the next cleanup's; a start of a bot deletes nothing."""
    incarnation = games.open("bot-1")
    live, paused, ended, stale = (games.start() for _ in range(4))
    for game in (live, paused, ended, stale):
        games.owned(game, incarnation)
    games.move(paused, "pause")
    games.move(ended, "end")
    age(sql, stale, "31 min")
    fresh = games.open("bot-1")
    answer = recovered(games, "bot-1", fresh)
    assert (ids(answer), answer["more"], answer["passedOver"]) == ([live], 0, 0)
    counts = games.api.get("/api/sessions/count", headers=games.headers).json()["byStatus"]
    assert counts == {"draft": 0, "active": 2, "paused": 1, "ended": 1}
    games.move(paused, "resume")
    assert ids(recovered(games, "bot-1", fresh)) == [paused]
    assert games.api.post(CLEANUP + "orphaned-games", headers=admin).json()["deleted"] == 1
    assert problem_of(games.command(stale, 1)) == (410, "session-archived")


def test_a_game_that_was_recovered_three_times_without_a_command_is_passed_over(games: Games) -> None:
    game = games.start()
    games.owned(game, games.open("bot-1"))
    for times in range(4):
        incarnation = games.open("bot-1")
        answer = recovered(games, "bot-1", incarnation)
        assert (len(answer["sessions"]), answer["passedOver"]) == ((1, 0) if times < 3 else (0, 1))
        assert games.instance("renew", "bot-1", incarnation).json()["orphans"] == 0
    fence = games.owned(game, incarnation)
    games.command(game, 1, fence=fence)
    again = recovered(games, "bot-1", games.open("bot-1"))
    assert (ids(again), again["passedOver"]) == ([game], 0)


def test_a_page_of_recovered_games_is_limited_in_bytes(games: Games, sql: Sql) -> None:
    incarnation = games.open("bot-1")
    for _ in range(3):
        games.owned(games.start(), incarnation)
    sql.execute("update lull.sessions set state = jsonb_build_object('a', repeat('x', 500000))")
    fresh = games.open("bot-1")
    pages = [recovered(games, "bot-1", fresh) for _ in range(4)]
    assert [(len(page["sessions"]), page["more"]) for page in pages] == [(1, 2), (1, 1), (1, 0), (0, 0)]


def test_the_fourth_restart_within_five_seconds_ends_the_game(games: Games, sql: Sql) -> None:
    game, incarnation = games.start(), games.open()
    games.owned(game, incarnation)
    for _ in range(3):
        games.owned(game, incarnation, restarted=True)
    sql.execute("update lull.sessions set restarted_at[1] = restarted_at[1] - interval '6 s'")
    assert games.claim(game, incarnation, restarted=True).json()["session"]["status"] == "active"
    ended = games.claim(game, incarnation, restarted=True).json()
    assert (ended["session"]["status"], ended["session"]["endReason"], ended["fence"]) == ("ended", "restart_limit", 5)
    told = [(each["event"], each["data"]) for each in games.events(game)[-2:]]
    assert told == [("ended", {"reason": "restart_limit"}), ("terminated", {"reason": "restart_limit"})]
    assert problem_of(games.claim(game, incarnation)) == (409, "wrong-status")


def test_renewals_and_claims_are_no_activity(games: Games, sql: Sql) -> None:
    game, incarnation = games.start(), games.open()
    age(sql, game, "31 min")
    games.owned(game, incarnation)
    games.instance("renew", "bot-1", incarnation)
    assert games.read(game)["expired"] is True


def test_instances_are_for_the_service_only(games: Games, environment: dict[str, str]) -> None:
    ada = as_user(environment)
    for path in ("/api/instances/bot-1/open", "/api/sessions/00000000-0000-4000-8000-000000000000/claim"):
        assert problem_of(games.api.post(path, json={}, headers=ada)) == (401, "unauthorized")
    assert problem_of(games.api.post("/api/instances/a%20b/open", headers=games.headers)) == (422, "invalid-request")


def test_the_policies_take_old_commands_instances_and_displacements(
    games: Games, sql: Sql, admin: dict[str, str], api: httpx.Client
) -> None:
    game, kept, over = games.start(), games.open("kept"), games.open("over")
    games.owned(game, over)
    games.owned(game, kept, force=True)
    games.command(game, 1, fence=2)
    sql.execute("update lull.instances set lease_until = now() - interval '8 d', opened_at = now() - interval '9 d'")
    sql.execute("update lull.displacements set at = now() - interval '25 h'")
    sql.execute("update lull.session_commands set at = now() - interval '8 d'")
    for policy in ("old-commands", "old-instances", "old-displacements"):
        assert api.post(CLEANUP + policy, headers=admin).json()["deleted"] == 1, policy
    assert [row["id"] for row in sql.execute("select id from lull.instances")] == ["kept"], "its game is open"
    assert games.read(game)["version"] == 2
