"""Heartbeats beside bare updates of the same rows and beside a purge, and a sweep of rooms that are all in use."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from psycopg.types.json import Jsonb

from tests.bench.calls import add_function, load
from tests.bench.contender import LULL_ARCHIVE
from tests.bench.context import Context
from tests.bench.dataset import Connection
from tests.bench.sections.alone import call
from tests.bench.servers import Project

BARE, WRITES, HALF = "bare update", "each one writes", "every second one writes"
UPDATE, SWEEP, NEXT_SWEEP = "bare update of the clocks", "sweep", "next sweep"
_ROOMS = 100_000
_PEOPLE = 4  # in each room
_SHARE = 8  # of the rooms: so many fewer have people who beat
_MAKE_BARE = """
create or replace function public.bench_touch(p_participant uuid, p_tab text)
returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_at timestamptz;
begin
  update lull.session_participants set last_seen_at = now() where id = p_participant returning last_seen_at into v_at;
  return jsonb_build_object('at', v_at);
end $$;
grant execute on function public.bench_touch(uuid, text) to service_role;
"""
_FILL = """
with room as (
  insert into lull.sessions (kind, status, owner_id, last_activity_at)
  select 'room', 'active', gen_random_uuid(), now() - interval '2 h' from generate_series(1, %s) returning id
)
insert into lull.session_participants (session_id, name, anonymous_id, tabs)
select id, 'p' || n, 'a' || n, '{t}' from room cross join generate_series(1, %s) n
"""
_AGE = """
update lull.session_participants
set last_seen_at = now() - case when %s or get_byte(uuid_send(id), 15) %% 2 = 0 then interval '60 s' else interval '0' end
where tabs <> '{}'  -- not those of the sessions that were there before
"""
_PEOPLE_IN_TURN = """
select session_id, id from lull.session_participants where tabs <> '{}'
order by row_number() over (partition by get_byte(uuid_send(id), 15) % 2 order by md5(id::text))
"""
_CLOCKS = "update lull.sessions set last_activity_at = now() where kind = 'room'"


def heartbeats(context: Context) -> None:
    """Beats that write, and of which every second one does, in turns with bare updates; then beats beside a purge."""
    with context.bases.copy(context.size.lull) as copy, context.servers.project(copy.database) as project:
        add_function(project, _MAKE_BARE, "bench_touch", {"p_participant": str(uuid4()), "p_tab": "t"})
        with project.connect() as connection:
            connection.execute(_FILL, (_ROOMS // _SHARE, _PEOPLE))
            for turn in range(context.size.rounds + 1):  # the first one warms up
                for case in (BARE, WRITES, HALF):
                    with context.said(f"round {turn}, {case}") as words:
                        measured = _beat(project, connection, case, context.size.warm_seconds if turn else 1)
                        if turn:
                            context.results.add("heartbeats", case, turn, **measured)
                        words += [f"{measured['requests_per_second']:.0f}/s"]
        with (
            context.said("beside a purge") as words,
            LULL_ARCHIVE.start(context.servers, copy, LULL_ARCHIVE.variables) as started,
            ThreadPoolExecutor(1) as beside,
            project.connect() as connection,
        ):
            idle = _beat(project, connection, HALF, context.size.warm_seconds)
            purge = beside.submit(started.work)
            during = _beat(project, connection, HALF, context.size.warm_seconds)
            was_over = purge.done()
            purge.result()
            context.results.add("heartbeats", "idle", 1, **idle)
            context.results.add("heartbeats", "beside a purge", 1, **during)
            words += [f"p99 {idle['p99_ms']:.1f} ms idle, {during['p99_ms']:.1f} ms during"]
            if was_over:
                raise RuntimeError("the purge ended before the heartbeats beside it")


def _beat(project: Project, connection: Connection, case: str, seconds: float) -> dict[str, float]:
    connection.execute(_AGE, (case != HALF,))
    connection.execute("vacuum lull.session_participants")
    bodies = _bodies(case, connection.execute(_PEOPLE_IN_TURN).fetchall())
    return load(project, "bench_touch" if case == BARE else "lull_heartbeat", bodies, seconds)


def _bodies(case: str, people: list[tuple[object, ...]]) -> Iterator[str]:
    """A beat of each person once, those of even ids and of odd ones in turns."""
    for session, participant in people:
        body = {"p_participant": str(participant), "p_tab": "t"}
        yield json.dumps(body if case == BARE else body | {"p_session": str(session)}, separators=(",", ":"))


def rooms(context: Context) -> None:
    """A sweep of 100,000 rooms whose clocks are old and whose people are there, and the next one, beside one update."""
    for turn in range(1, context.size.rounds + 1):
        with context.said(f"round {turn}") as words:
            for case in (UPDATE, SWEEP):
                with context.bases.copy(context.size.lull) as copy, context.servers.connect(copy.database) as connection:
                    connection.execute("update lull.session_participants set is_active = false")  # nothing to tell of others
                    connection.execute(_FILL, (_ROOMS, 1))
                    connection.execute("vacuum (analyze) lull.sessions, lull.session_participants")
                    connection.execute("checkpoint")
                    took = {case: _seconds(connection, case)}
                    if case == SWEEP:
                        took[NEXT_SWEEP] = _seconds(connection, NEXT_SWEEP)
                    for name, seconds in took.items():
                        context.results.add("rooms", name, turn, seconds=seconds)
                        words.append(f"{name} {seconds:.2f} s")


def _seconds(connection: Connection, case: str) -> float:
    began, moved = time.perf_counter(), 0
    if case == UPDATE:
        connection.execute(_CLOCKS)
        return time.perf_counter() - began
    part: dict[str, Any] = {"next": None}
    while True:
        after = Jsonb(part["next"]) if part["next"] else None
        part = call(connection, "lull_sweep(p_limit => 1000, p_after => %s)", after)
        moved += part["moved"]
        if part["next"] is None:
            break
    took = time.perf_counter() - began
    if moved != (_ROOMS if case == SWEEP else 0):
        raise RuntimeError(f"a {case} moved {moved} clocks")
    return took
