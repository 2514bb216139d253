-- Core: what several features ask about runs. A switch named `cleanup` pauses every policy, `cleanup:<policy>` one. A
-- pause with an end is over then, without a call.

-- The pauses that are in effect.
create or replace function lull.pauses()
returns setof lull.switches
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select * from lull.switches s
  where (s.name = 'cleanup' or s.name like 'cleanup:%') and s.is_on and (s.until is null or s.until > now());
$$;

-- What is said of a pause: "paused since <time>[ until <time>][: reason]".
create or replace function lull.pause_words(p_pause lull.switches)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select 'paused since ' || lull.utc(p_pause.changed_at) || coalesce(' until ' || lull.utc(p_pause.until), '')
    || coalesce(': ' || p_pause.reason, '');
$$;

-- A time as a person reads it.
create or replace function lull.utc(p_at timestamptz)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
$$;
