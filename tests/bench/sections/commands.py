"""A command beside what it must do at least: a compare-and-set of the same row that moves the clock, by one function.

Both through PostgREST, 16 clients, each request on the version that the one before it made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

from tests.bench.calls import add_function, load
from tests.bench.context import Context
from tests.bench.servers import Project

BARE, COMMAND = "compare-and-set", "command"
_GAMES = 1000
_FUNCTIONS = {BARE: "bench_compare_and_set", COMMAND: "lull_apply_command"}
_MAKE_BARE = """
create or replace function public.bench_compare_and_set(p_session uuid, p_version integer, p_patch jsonb)
returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_version integer;
begin
  update lull.sessions
  set version = version + 1, state = state || p_patch, last_activity_at = greatest(last_activity_at, now())
  where id = p_session and version = p_version and status = 'active'
  returning version into v_version;
  if v_version is null then
    raise exception 'another version';
  end if;
  return jsonb_build_object('version', v_version);
end $$;
grant execute on function public.bench_compare_and_set(uuid, integer, jsonb) to service_role;
"""


def commands(context: Context) -> None:
    """The two in turns, each on games of its own in each round."""
    with context.bases.copy(context.size.lull) as copy, context.servers.project(copy.database) as project:
        add_function(project, _MAKE_BARE, _FUNCTIONS[BARE], {"p_session": str(uuid4()), "p_version": 1, "p_patch": {}})
        for turn in range(context.size.rounds + 1):  # the first one warms up
            for case in (BARE, COMMAND):
                with context.said(f"round {turn}, {case}") as words:
                    bodies = _bodies(case, _games(project))
                    measured = load(project, _FUNCTIONS[case], bodies, context.size.warm_seconds if turn else 1)
                    if turn:
                        context.results.add("commands", case, turn, **measured)
                    words += [f"{measured['requests_per_second']:.0f}/s"]


def _games(project: Project) -> list[str]:
    """Fresh active games: no version of theirs was used before."""
    with project.connect() as connection:
        rows = connection.execute(
            "insert into lull.sessions (kind, status, guild_id, mode) select 'game', 'active', 'g', 'm' "
            "from generate_series(1, %s) returning id",
            (_GAMES,),
        ).fetchall()
    return [str(row[0]) for row in rows]


def _bodies(case: str, games: list[str]) -> Iterator[str]:
    """The bodies of the calls, without blanks: a line of the load's input is split at them."""
    version = 0
    while True:
        version += 1
        for game in games:
            patch = {"n": version, "last": "guess"}
            if case == BARE:
                body: dict[str, object] = {"p_session": game, "p_version": version, "p_patch": patch}
            else:
                command = {"id": f"c-{version}", "hash": "00" * 32, "name": "guess", "version": version, "patch": patch}
                body = {"p_session": game, "p_command": command, "p_max_state_bytes": 65536}
            yield json.dumps(body, separators=(",", ":"))
