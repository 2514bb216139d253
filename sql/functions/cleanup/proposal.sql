-- Cleanup, the proposal of an adoption: the complete call with its guesses, before anything is stored.

-- What lull.adopt_sessions could be called with. Changes nothing. Returns {"call": the statement, "means": sentences,
-- "missing": [{"reason", "statement"}] that the adoption would be refused for, "stale": how many rows would go now,
-- "kept": [{"rows", "why"}]}.
create or replace function lull.propose_adoption(p_table regclass, p_kind text)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_target lull.targets;
  v_missing jsonb;
  v_counts jsonb := '{"stale": null, "kept": []}';
begin
  v_target.name := p_table::text;
  if exists (select 1 from lull.relation_faults(v_target)) then
    return jsonb_build_object('call', null, 'means', '[]'::jsonb, 'missing', (
      select jsonb_agg(to_jsonb(f)) from lull.relation_faults(v_target) f)) || v_counts;
  end if;
  v_target := lull.session_mapping(p_table, p_kind, null, lull.proposed_status(p_table), null, null,
    lull.proposed_clock(p_table), lull.proposed_below(p_table), false, null, '{}', null, null);
  v_target.statuses := lull.proposed_statuses(v_target);
  select coalesce(jsonb_agg(distinct to_jsonb(f)), '[]') into v_missing
  from (
    select * from lull.adoption_faults(v_target)
    union all
    select x ->> 'reason', x ->> 'statement'
    from jsonb_array_elements(lull.session_faults(v_target, v_target.status_column, v_target.clock_column)) x
  ) f;
  if v_target.clock_column is not null and v_target.kind in ('chat', 'room', 'game') then
    v_counts := lull.proposed_counts(v_target);
  end if;
  return jsonb_build_object('call', lull.adoption_call(v_target), 'means', lull.mapping_in_words(v_target),
    'missing', v_missing) || v_counts;
end
$$;

-- The column that is proposed as the status: `status`, else the only one that looks like one.
create or replace function lull.proposed_status(p_table regclass)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(lull.only_one(lull.columns_of(p_table, '{status}', null)), lull.only_one(
    lull.columns_of(p_table, '{state,phase,stage,is_active,active,is_open}', null)));
$$;

-- The values that are proposed for each status: labels or values of the column by what they are commonly called.
create or replace function lull.proposed_statuses(p_target lull.targets)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_values text[];
begin
  if p_target.status_column is null then
    return '{}';
  end if;
  select array_agg(e.enumlabel::text order by e.enumsortorder) into v_values
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_enum e on e.enumtypid = lull.base_type(a.atttypid)
  where a.attrelid = to_regclass(p_target.name) and a.attname = p_target.status_column;
  if v_values is null then
    execute format('select array_agg(distinct v) from (select %s::text as v from %s t limit 10000) x',
      lull.column_expression(p_target.status_column), p_target.name) into v_values;
  end if;
  v_values := array_remove(coalesce(v_values, '{}'), null);
  if v_values <@ '{true,false}' and v_values <> '{}' then
    return '{"active": ["true"], "ended": ["false"]}';
  end if;
  return coalesce((
    select jsonb_object_agg(w.word, w.named)
    from (
      select k.word, jsonb_agg(distinct v) as named
      from (values ('draft', '{draft,new,created,initializing}'::text[]),
        ('active', '{active,open,live,playing,started,in_progress,running}'),
        ('paused', '{paused,suspended,adjourned}'),
        ('ended', '{ended,closed,finished,completed,done,archived,cancelled,canceled}')) k (word, names)
      cross join unnest(v_values || k.word) v
      where v = any (k.names) and (v = any (v_values) or v_values = '{}' or k.word = v and not exists (
        select 1 from pg_catalog.pg_attribute a join pg_catalog.pg_enum e on e.enumtypid = lull.base_type(a.atttypid)
        where a.attrelid = to_regclass(p_target.name) and a.attname = p_target.status_column))
      group by k.word
    ) w), '{}');
end
$$;

-- The clock that is proposed: the first candidate that an index begins with, else the first.
create or replace function lull.proposed_clock(p_table regclass)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select c.name
  from unnest(lull.clock_candidates(p_table)) with ordinality c (name, n)
  order by exists (
    select 1 from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
    where i.indrelid = p_table and i.indisvalid and a.attname = c.name) desc, c.n
  limit 1;
$$;

-- What is proposed for each table below: a clock where it has one that presence moves, `goes along` for what its name
-- says is an attachment or a setting, `keeps` for any other.
create or replace function lull.proposed_below(p_table regclass)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(b.child::text, case
      when seen.name is not null then jsonb_build_object('clock', seen.name)
      when c.relname ~ '(attachment|file|upload|image|setting|preference|tag|embedding|draft|cursor)'
      then '"goes along"'
      else '"keeps"'::jsonb end), '{}')
  from (
    select x.child, min(x.depth) as depth from lull.tables_below(p_table) x where x.depth > 0 group by x.child
  ) b
  join pg_catalog.pg_class c on c.oid = b.child
  left join lateral (
    select (lull.columns_of(b.child, '{last_seen_at,seen_at,last_seen,last_active_at}', 'timestamptz'))[1]
  ) seen (name) on true
  where b.depth = 1 and b.child <> p_table;
$$;

-- The call that stores an entry as it stands.
create or replace function lull.adoption_call(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format(E'select lull.adopt_sessions(%L, %L', p_target.name, p_target.kind)
    || coalesce(E',\n  p_owner => ' || quote_literal(p_target.owner_column), '')
    || E',\n  p_status => ' || quote_literal(coalesce(p_target.status_column, ''))
    || case when p_target.status_column is null then ''
      else E',\n  p_statuses => ' || quote_literal(p_target.statuses) end
    || E',\n  p_first_message => ' || quote_literal(coalesce(p_target.first_message_column, ''))
    || coalesce(E',\n  p_clock => ' || quote_literal(p_target.clock_column), '')
    || E',\n  p_below => ' || quote_literal(p_target.below) || ');';
$$;

-- How many rows would go now under the stored policies, and how many stay for which reason. Every row of the table is
-- counted once, by the first reason that keeps it.
create or replace function lull.proposed_counts(p_target lull.targets)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_age interval;
  v_counts jsonb;
begin
  select min(age) into v_age from lull.policies
  where target = 'lull.sessions' and equals ->> 'kind' = p_target.kind
    and equals ->> 'status' = case p_target.kind when 'chat' then 'draft' else 'active' end;
  execute format(
    'select coalesce(jsonb_object_agg(why, n), ''{}'') from (select case
       when %s <> %L then ''their status is '' || coalesce(''"'' || %s::text || ''"'', ''another'')
       when %s is not null then ''they have a first message''
       when %s is null then ''their clock is null''
       when %s >= now() - $1 then ''their clock is newer than the age of the policy''
       when %s then ''a row below keeps them''
       when %s <= now() then ''stale'' end as why, count(*) as n
     from %s t group by 1) x',
    lull.status_expression(p_target), case p_target.kind when 'chat' then 'draft' else 'active' end,
    lull.column_expression(p_target.status_column),
    case p_target.kind when 'chat' then lull.column_expression(p_target.first_message_column) else 'null' end,
    lull.column_expression(p_target.clock_column), lull.column_expression(p_target.clock_column),
    lull.kept_expression(to_regclass(p_target.name), 't', p_target.below),
    lull.column_expression(p_target.clock_column), p_target.name)
  into v_counts using coalesce(v_age, interval '24 hours');
  return jsonb_build_object(
    'stale', coalesce((v_counts ->> 'stale')::bigint, 0),
    'kept', (
      select coalesce(jsonb_agg(
        jsonb_build_object('rows', value::bigint, 'why', key) order by value::bigint desc, key), '[]')
      from jsonb_each_text(v_counts) where key <> 'stale'),
    'note', 'Counted with p_existing => true; by default a row stays until its clock is newer than the adoption.');
end
$$;

-- Whether a row directly below keeps the row p_alias, as SQL; $1 is the age. Compared by the foreign keys' own
-- operators.
create or replace function lull.kept_expression(p_table regclass, p_alias text, p_below jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(string_agg(format('exists (select 1 from %s b where %s%s)', e.child, e.joined, case
      when jsonb_typeof(p_below -> e.child::text) = 'object'
      then format(' and b.%I > now() - $1', p_below -> e.child::text ->> 'clock') else '' end), ' or '), 'false')
  from (
    select x.child, (
      select string_agg(
        format('%s.%I operator(%I.%s) b.%I', p_alias, p.attname, n.nspname, o.oprname, c.attname), ' and ')
      from pg_catalog.pg_constraint f
      cross join lateral unnest(f.confkey, f.conkey, f.conpfeqop) k (pk, fk, op)
      join pg_catalog.pg_attribute p on p.attrelid = f.confrelid and p.attnum = k.pk
      join pg_catalog.pg_attribute c on c.attrelid = f.conrelid and c.attnum = k.fk
      join pg_catalog.pg_operator o on o.oid = k.op
      join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
      where f.oid = x.fkey) as joined
    from lull.tables_below(p_table) x
    where x.depth = 1
  ) e
  where coalesce(p_below -> e.child::text, '"keeps"') <> '"goes along"';
$$;
