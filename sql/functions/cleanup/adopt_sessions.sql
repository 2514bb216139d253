-- Cleanup, adoption of sessions: a team's own table whose rows are chats, rooms or games. The mapping says which column
-- means what; a default is taken only when it is the only candidate.

-- Adopt a table of sessions.
--   p_owner         its uuid column of the signed-in user whose session a row is; null in a row: the companion's owner
--   p_status        its status column ('' when it has none); values compare as text (`true` for a boolean)
--   p_statuses      {"draft": ["new"], …}: which values mean which status; a value that is not named is never stale
--   p_first_message its timestamptz column of the first message ('' for none)
--   p_clock         its timestamptz column that activity moves
--   p_below         what rows of a table below mean; a table that is not named keeps
--   p_existing      whether rows count whose clock is not newer than the adoption
--   p_participants  {"table", "session", "user", "name", "active", "seen"}: a table of participants and its columns
--   p_trust, p_hold, p_search_path   as for lull.adopt
-- Raises 422 with every reason at once; then nothing was stored. Returns what was understood, in words. Adds nothing to
-- the table and locks nothing in it.
create or replace function lull.adopt_sessions(
  p_table regclass, p_kind text, p_owner text default null, p_status text default null, p_statuses jsonb default null,
  p_first_message text default null, p_clock text default null, p_below jsonb default '{}',
  p_existing boolean default false, p_participants jsonb default null, p_trust text[] default '{}',
  p_hold text default null, p_search_path text default null)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_target lull.targets := lull.session_mapping(p_table, p_kind, p_owner, p_status, p_statuses, p_first_message,
    p_clock, p_below, p_existing, p_participants, p_trust, p_hold, p_search_path);
begin
  perform lull.refuse_adoption(v_target, case when exists (select 1 from lull.relation_faults(v_target)) then '[]'
    else lull.session_faults(v_target, p_status, p_clock) end);
  v_target := lull.store_target(v_target);
  return format('%s is adopted as %s sessions. %s Nothing was changed in it.', v_target.name, v_target.kind,
    array_to_string(lull.mapping_in_words(v_target), ' '));
end
$$;

-- The entry that a call of adopt_sessions means, with the defaults filled in. Reads the catalog only.
create or replace function lull.session_mapping(
  p_table regclass, p_kind text, p_owner text, p_status text, p_statuses jsonb, p_first_message text, p_clock text,
  p_below jsonb, p_existing boolean, p_participants jsonb, p_trust text[], p_hold text, p_search_path text)
returns lull.targets
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_enum oid;
begin
  v_target.name := p_table::text;
  v_target.relation := p_table::oid;
  v_target.kind := p_kind;
  v_target.builtin := false;
  v_target.key_columns := coalesce(lull.unique_key(p_table, null), '{}');
  v_target.owner_column := nullif(coalesce(p_owner, lull.only_one(lull.owner_candidates(p_table))), '');
  v_target.status_column := nullif(coalesce(p_status, lull.only_one(lull.columns_of(p_table, '{status}', null))), '');
  v_target.first_message_column := nullif(coalesce(p_first_message,
    lull.only_one(lull.columns_of(p_table, '{first_message_at}', 'timestamptz'))), '');
  v_target.clock_column := nullif(coalesce(p_clock, lull.only_one(lull.clock_candidates(p_table))), '');
  v_target.hold_column := p_hold;
  v_target.below := lull.canonical_below(p_below);
  v_target.existing := coalesce(p_existing, false);
  v_target.adopted_at := coalesce((select g.adopted_at from lull.targets g where g.name = v_target.name), now());
  v_target.participants := p_participants;
  v_target.trust := coalesce(p_trust, '{}');
  v_target.search_path := lull.with_temp_last(coalesce(p_search_path, lull.database_path()));
  select t.oid into v_enum
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_type t on t.oid = lull.base_type(a.atttypid) and t.typtype = 'e'
  where a.attrelid = p_table and a.attname = v_target.status_column;
  -- By default each of the four words names itself; of an enum, those that are labels.
  v_target.statuses := case
    when v_target.status_column is null then '{}'
    when p_statuses is not null then p_statuses
    else (
      select coalesce(jsonb_object_agg(w, jsonb_build_array(w)), '{}')
      from unnest('{draft,active,paused,ended}'::text[]) w
      where v_enum is null or exists (
        select 1 from pg_catalog.pg_enum e where e.enumtypid = v_enum and e.enumlabel = w)) end;
  return v_target;
end
$$;

-- The columns of a table with one of these names, of a type (below domains; null: any), in the table's order.
create or replace function lull.columns_of(p_table regclass, p_names text[], p_type regtype)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(a.attname::text order by a.attnum), '{}')
  from pg_catalog.pg_attribute a
  where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attname = any (p_names)
    and (p_type is null or lull.base_type(a.atttypid) = p_type);
$$;

-- The element of an array of one; null of any other.
create or replace function lull.only_one(p_names text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case cardinality(p_names) when 1 then p_names[1] end;
$$;

-- The uuid columns that may hold the user whose session a row is: those that refer to auth.users, else by name.
create or replace function lull.owner_candidates(p_table regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with referring as (
    select array_agg(distinct a.attname::text) as names
    from pg_catalog.pg_constraint f
    join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
    where f.conrelid = p_table and f.contype = 'f' and cardinality(f.conkey) = 1
      and f.confrelid = to_regclass('auth.users') and lull.base_type(a.atttypid) = 'uuid'::regtype
  )
  select coalesce((select names from referring), lull.columns_of(p_table,
    '{user_id,owner_id,owner,created_by,creator_id,author_id,host_id,host_user_id}', 'uuid'));
$$;

-- The timestamptz columns that activity may move, by name.
create or replace function lull.clock_candidates(p_table regclass)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select lull.columns_of(p_table,
    '{last_activity_at,last_active_at,last_message_at,last_seen_at,updated_at,modified_at}', 'timestamptz');
$$;

-- What is refused of a table of sessions besides the faults of every target: an unknown kind, an ambiguous choice, a
-- column that looks like a status and is not named, a mapping of participants that does not fit, a clock that no index
-- serves. An array of [{"reason", "statement"}].
create or replace function lull.session_faults(p_target lull.targets, p_status text, p_clock text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table regclass := to_regclass(p_target.name);
  v_clocks text[] := lull.clock_candidates(v_table);
  v_statuses text[] := lull.columns_of(v_table,
    '{state,phase,stage,is_active,active,is_open,is_closed,closed,finished,archived,is_archived,ended_at,closed_at}',
    null);
  v_reasons text[] := lull.participant_reasons(p_target);
  v_unserved text[];
begin
  if p_target.kind is null or p_target.kind not in ('chat', 'room', 'game') then
    v_reasons := v_reasons || format('there is no kind %s', coalesce(p_target.kind, 'null'));
  end if;
  v_reasons := v_reasons || array(
    select format('it is adopted as %s already; first: select lull.release(%L)', coalesce(g.kind, 'a plain table'),
      g.name)
    from lull.targets g
    where g.name = p_target.name and not g.builtin and g.kind is distinct from p_target.kind);
  if p_clock is null and cardinality(v_clocks) > 1 then
    v_reasons := v_reasons || format('several columns may be its clock (%s): name p_clock',
      array_to_string(v_clocks, ', '));
  end if;
  if p_status is null and p_target.status_column is null and v_statuses <> '{}' then
    v_reasons := v_reasons || format('%s may say its status: name p_status, or p_status => '''' if it does not',
      array_to_string(v_statuses, ', '));
  end if;
  if v_reasons = '{}' and not exists (
    select 1 from lull.column_faults(p_target)
    union all
    select 1 from lull.status_faults(p_target)
    union all
    select 1 from lull.below_faults(p_target) where statement is null
  ) then
    v_unserved := lull.unserved_policies(p_target);
  end if;
  return (
    select coalesce(jsonb_agg(x), '[]')
    from (
      select jsonb_build_object('reason', r) as x from unnest(v_reasons) r
      union all
      select jsonb_build_object(
        'reason', format('no index serves its clock %s (%s)', p_target.clock_column, array_to_string(v_unserved, ', ')),
        'statement', format('create index on %s (%I, %I);', p_target.name, p_target.clock_column,
          p_target.key_columns[1]))
      where cardinality(v_unserved) > 0
    ) y);
end
$$;

-- The policies of whose lines on this table no index serves the selection, asked of the planner. The entry is stored
-- for that in a block that is undone.
create or replace function lull.unserved_policies(p_target lull.targets)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_undo constant text := 'LU002';
  v_policy lull.policy_definition;
  v_unserved text[] := '{}';
begin
  begin
    perform lull.store_target(p_target);
    for v_policy in
      select l.*
      from jsonb_array_elements(lull.effective_policies()) p
      cross join lateral lull.policy_lines(lull.read_definition(p, 1)) l
      where l.target = p_target.name and l.base is not null
    loop
      if not lull.has_selection_index(v_policy, lull.stale_selection(v_policy, now())) then
        v_unserved := v_unserved || v_policy.base;
      end if;
    end loop;
    raise exception using errcode = c_undo;
  exception when sqlstate 'LU002' then
    null;
  end;
  return v_unserved;
end
$$;

-- What does not fit of a mapping of participants.
create or replace function lull.participant_reasons(p_target lull.targets)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select format('its participants'' table %s does not exist', coalesce(p_target.participants ->> 'table', 'null'))
    where p_target.participants is not null and to_regclass(p_target.participants ->> 'table') is null
    union all
    select format('its participants have no column for %s', k)
    from unnest('{session,user}'::text[]) k
    where p_target.participants is not null and p_target.participants ->> k is null
      and (k <> 'session' or lull.participants_key(p_target) is null)
    union all
    select format('the column %s of %s does not exist', c.value, p_target.participants ->> 'table')
    from jsonb_each_text(p_target.participants) c
    where c.key <> 'table' and to_regclass(p_target.participants ->> 'table') is not null and not exists (
      select 1 from pg_catalog.pg_attribute a
      where a.attrelid = to_regclass(p_target.participants ->> 'table') and a.attname = c.value
        and not a.attisdropped));
$$;

-- What a mapping means, as sentences.
create or replace function lull.mapping_in_words(p_target lull.targets)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select array_remove(array[
    case when p_target.owner_column is null
      then 'It names no owner: a session is its companion''s owner''s, and without one only the service may act on it.'
      else format('A session is the user''s in %I.', p_target.owner_column) end,
    case when p_target.status_column is null then case
        when p_target.kind <> 'chat' then 'It has no status column: every row counts as active.'
        else 'It has no status column: a row is a draft until its first message.' end
      else format('Its status is %I: %s; any other value is kept.', p_target.status_column, coalesce((
        select string_agg(format('%s is %s', s.key, array_to_string(array(
          select jsonb_array_elements_text(s.value)), ' or ')), ', ' order by array_position(
            '{draft,active,paused,ended}', s.key))
        from jsonb_each(p_target.statuses) s), 'none is named')) end,
    case when p_target.first_message_column is not null
      then format('A row with %I is no draft.', p_target.first_message_column) end,
    'Its clock is ' || quote_ident(p_target.clock_column) || '.',
    (select format('Tables below: %s.', string_agg(format('%s %s', b.child, case
        when p_target.below -> b.child::text is null then 'keeps (not named)'
        when jsonb_typeof(p_target.below -> b.child::text) = 'object' then
          format('keeps while its %I is newer than the cutoff', p_target.below -> b.child::text ->> 'clock')
        else p_target.below ->> b.child::text end), ', ' order by b.child::text))
      from (select distinct child from lull.tables_below(to_regclass(p_target.name)) where depth = 1) b
      having count(*) > 0),
    case when not p_target.existing then format('A row whose clock is not newer than the adoption (%s) is kept.',
      lull.utc(p_target.adopted_at)) end,
    format('Its own code runs under the search path %s.', p_target.search_path)
  ], null);
$$;
