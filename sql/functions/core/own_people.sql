-- Core: participants in a team's table (p_participants of lull.adopt_sessions): read, written, and followed by the rows
-- of lull.session_participants that hold what the table has no column for (tabs, marks), with the same ids and no
-- names.
--
-- Lock order: the row in lull.session_participants, then the team's.

-- The column of the participants' table that refers to the session: as named, else its only foreign key to the table.
create or replace function lull.participants_key(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(p_target.participants ->> 'session', (
    select case count(*) when 1 then min(a.attname::text) end
    from pg_catalog.pg_constraint f
    join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
    where f.contype = 'f' and cardinality(f.conkey) = 1 and f.confrelid = to_regclass(p_target.name)
      and f.conrelid = to_regclass(p_target.participants ->> 'table')));
$$;

-- The primary key of the participants' table, where it is one uuid; null otherwise.
create or replace function lull.person_key(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select a.attname::text
  from pg_catalog.pg_index i
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where i.indrelid = to_regclass(p_target.participants ->> 'table') and i.indisprimary and i.indnkeyatts = 1
    and lull.base_type(a.atttypid) = 'uuid'::regtype;
$$;

-- The indexes of the participants' table that have the column of its clock: a heartbeat writes an entry of each.
create or replace function lull.seen_indexes(p_target lull.targets)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct i.indexrelid::regclass::text order by i.indexrelid::regclass::text), '{}')
  from pg_catalog.pg_index i
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attname = p_target.participants ->> 'seen'
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = i.indexrelid
    and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = i.indrelid and d.refobjsubid = a.attnum
  where i.indrelid = to_regclass(p_target.participants ->> 'table');
$$;

-- The newest clock of the participants of row t as SQL; the SQL null without a mapping that has one.
create or replace function lull.people_clock_expression(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce((
    select format('(select pg_catalog.max(p.%I) from %s p where p.%I operator(pg_catalog.=) t.%I)',
      p_target.participants ->> 'seen', to_regclass(p_target.participants ->> 'table'), k, p_target.key_columns[1])
    from lull.participants_key(p_target) k
    where p_target.participants ->> 'seen' is not null and k is not null
      and to_regclass(p_target.participants ->> 'table') is not null), 'null');
$$;

-- The participants of a session in a team's table, or the one of a user: [{"id", "user", "name", "active", "seen"}].
-- Empty without a mapping, and for a table whose key is not one uuid. Locks nothing.
create or replace function lull.read_people(p_target lull.targets, p_session uuid, p_user uuid default null)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_of constant jsonb := p_target.participants;
  v_people jsonb;
begin
  if lull.person_key(p_target) is null or lull.participants_key(p_target) is null then
    return '[]';
  end if;
  execute format(
    'select coalesce(jsonb_agg(jsonb_build_object(''id'', p.%I, ''user'', p.%I, ''name'', %s, ''active'', %s,
       ''seen'', %s)), ''[]'')
     from %s p where p.%I = $1 and ($2 is null or p.%I = $2)',
    lull.person_key(p_target), v_of ->> 'user', coalesce(format('p.%I::text', v_of ->> 'name'), 'null'),
    coalesce(format('p.%I::text in (''true'', ''active'')', v_of ->> 'active'), 'true'),
    coalesce(format('p.%I', v_of ->> 'seen'), 'null'), to_regclass(v_of ->> 'table'),
    lull.participants_key(p_target), v_of ->> 'user')
  into v_people using p_session, p_user;
  return v_people;
end
$$;

-- Bring the rows of lull.session_participants to what the team's table says: who is in it, active or not, and when
-- seen. Of several rows of a user the one seen last counts. The caller holds the companion's lock. Tells no one.
create or replace function lull.follow_people(p_target lull.targets, p_session uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_people constant jsonb := lull.read_people(p_target, p_session);
  v_says constant boolean := p_target.participants ->> 'active' is not null;  -- who is in it
begin
  if lull.person_key(p_target) is null then
    return;
  end if;
  update lull.session_participants p
  set is_active = false, left_at = now()
  where p.session_id = p_session and p.is_active
    and not exists (
      select 1 from jsonb_to_recordset(v_people) t (id uuid, active boolean) where t.id = p.id and t.active);
  insert into lull.session_participants as p (id, session_id, user_id, is_active, last_seen_at)
  select distinct on (coalesce(t."user", t.id)) t.id, p_session, t."user", t.active, coalesce(t.seen, '-infinity')
  from jsonb_to_recordset(v_people) t (id uuid, "user" uuid, active boolean, seen timestamptz)
  where not exists (
    select 1 from lull.session_participants o
    where o.session_id = p_session and o.user_id = t."user" and o.id <> t.id and o.is_active)
  order by coalesce(t."user", t.id), t.active desc, t.seen desc nulls last, t.id
  on conflict (id) do update set
    is_active = case when v_says then excluded.is_active and p.removed_at is null else p.is_active end,
    left_at = case when v_says and excluded.is_active then null else p.left_at end,
    last_seen_at = greatest(p.last_seen_at, excluded.last_seen_at)
  where v_says and p.is_active <> excluded.is_active or p.last_seen_at < excluded.last_seen_at;
end
$$;

-- Write a participant into the team's table, under its search path: that the person is here (p_active), or is not any
-- more, or was seen (null). A person who is not in the table is inserted when here. Nothing without a mapping. Raises
-- 409 that names the constraint or trigger of theirs that refuses; then nothing is written.
create or replace function lull.write_person(
  p_table text, p_person lull.session_participants, p_active boolean, p_name text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_target lull.targets;
  v_of jsonb;
  v_key text;
  v_done jsonb;
  v_state text;
  v_message text;
  v_constraint text;
  v_context text;
begin
  select * into v_target from lull.targets where name = p_table;
  v_of := v_target.participants;
  v_key := lull.person_key(v_target);
  if v_key is null then
    return;
  end if;
  begin
    v_done := lull.run_in_path(v_target.search_path,
      lull.person_update(v_target, v_key, p_active, p_name), p_person.id, null, null);
    if v_done is null and p_active then
      v_done := lull.run_in_path(v_target.search_path,
        lull.person_insert(v_target, v_key, p_person, p_name), p_person.id, null, null);
    end if;
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_constraint = constraint_name,
      v_context = pg_exception_context;
    if left(v_state, 2) in ('40', '53', '55', '57', '58', 'XX') then
      raise;
    end if;
    perform lull.refused_by_table(v_of ->> 'table', v_message, nullif(v_constraint, ''), v_context);
  end;
end
$$;

-- The update of a participant in a team's table: $1 is the key. The clock only moves forward, and not with a leave.
create or replace function lull.person_update(p_target lull.targets, p_key text, p_active boolean, p_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('update %s p set %s where p.%I operator(pg_catalog.=) $1 returning ''true''::pg_catalog.jsonb',
    to_regclass(p_target.participants ->> 'table'),
    coalesce(string_agg(format('%I = %s', x.name, x.value), ', '), format('%1$I = p.%1$I', p_key)), p_key)
  from (
    select p_target.participants ->> 'active' as name, quote_literal(p_active) as value where p_active is not null
    union all
    select p_target.participants ->> 'name', quote_literal(p_name) where p_name is not null
    union all
    select p_target.participants ->> 'seen',
      format('greatest(p.%I, pg_catalog.now())', p_target.participants ->> 'seen')
    where p_active is not false
  ) x
  where x.name is not null;
$$;

-- The insert of a participant into a team's table: $1 is the key.
create or replace function lull.person_insert(
  p_target lull.targets, p_key text, p_person lull.session_participants, p_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format('insert into %s (%s) values (%s) returning ''true''::pg_catalog.jsonb',
    to_regclass(p_target.participants ->> 'table'), string_agg(quote_ident(x.name), ', ' order by x.n),
    string_agg(x.value, ', ' order by x.n))
  from (values
    (1, p_key, '$1'),
    (2, lull.participants_key(p_target), quote_literal(p_person.session_id)),
    (3, p_target.participants ->> 'user', quote_nullable(p_person.user_id)),
    (4, p_target.participants ->> 'name', quote_nullable(p_name)),
    (5, p_target.participants ->> 'active', '''true'''),
    (6, p_target.participants ->> 'seen', 'pg_catalog.now()')
  ) x (n, name, value)
  where x.name is not null;
$$;
