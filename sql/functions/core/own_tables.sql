-- Core: a team's own tables, as lull.targets describes them.
--
-- An entry with a kind (lull.adopt_sessions) says which columns of a table hold the owner, the status, the first
-- message and the clock of a session. Nothing is copied: every question is answered from the team's row. The functions
-- here make SQL text from an entry; the row is always aliased t, a row of lull.sessions c.

-- The type below any number of domains.
create or replace function lull.base_type(p_type regtype)
returns regtype
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive step as (
    select oid, typtype, typbasetype from pg_catalog.pg_type where oid = p_type
    union all
    select t.oid, t.typtype, t.typbasetype from step s join pg_catalog.pg_type t on t.oid = s.typbasetype
    where s.typtype = 'd'
  )
  select oid::regtype from step where typtype <> 'd';
$$;

-- The tables whose rows hang below rows of p_table by foreign keys that cascade, at any depth, and p_table itself at
-- depth 0: [parent, child, the constraint]. Keys to and from single partitions are followed, and those to a table of
-- which only a partition hangs below; keys that are not enforced (Postgres 18) are not.
create or replace function lull.tables_below(p_table regclass)
returns table (parent regclass, child regclass, fkey oid, depth integer)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reached oid[] := array[p_table::oid];
  v_seen oid[];
  v_keys oid[] := '{}';
  v_row record;
  v_depth integer := 0;
  v_found boolean;
begin
  return query select null::regclass, p_table, null::oid, 0;
  loop
    v_depth := v_depth + 1;
    v_found := false;
    v_seen := array(select distinct f from unnest(v_reached) r, unnest(lull.partition_family(r)) f);
    for v_row in
      select f.oid, f.conrelid, f.confrelid
      from pg_catalog.pg_constraint f
      where f.contype = 'f' and f.confdeltype = 'c' and f.conparentid = 0 and f.confrelid = any (v_seen)
        and f.oid <> all (v_keys) and coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true)
      order by f.conrelid::regclass::text, f.conname
    loop
      v_found := true;
      v_keys := v_keys || v_row.oid;
      v_reached := v_reached || v_row.conrelid;
      return query select v_row.confrelid::regclass, v_row.conrelid::regclass, v_row.oid, v_depth;
    end loop;
    exit when not v_found;
  end loop;
end
$$;

-- The status of a session as SQL on the row: one of the four words, or `other` for a value that the adoption does not
-- name. Values compare as text. Without a status column a chat is a draft until its first message; a room or game is
-- active.
create or replace function lull.status_expression(p_target lull.targets)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_target.status_column is not null then format('case%s else ''other'' end', (
      select string_agg(format(' when t.%I::pg_catalog.text operator(pg_catalog.=) any (%L::pg_catalog.text[]) then %L',
        p_target.status_column, array(select jsonb_array_elements_text(s.value)), s.key), '')
      from jsonb_each(p_target.statuses) s))
    when p_target.kind <> 'chat' then quote_literal('active')
    when p_target.first_message_column is null then quote_literal('draft')
    else format('case when t.%I is null then ''draft'' else ''active'' end', p_target.first_message_column)
  end;
$$;

-- The condition that a row c of lull.sessions is the companion of row t: it names the table, and where the row has an
-- owner, it is that owner's. A companion of the service's (no owner, no token) fits any row.
create or replace function lull.companion_condition(p_target lull.targets)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select format('c.companion_of = %L', p_target.name) || case when p_target.owner_column is null then '' else format(
    ' and (t.%1$I is null or c.owner_id = t.%1$I or c.owner_id is null and c.owner_token_hash is null)',
    p_target.owner_column) end;
$$;

-- The condition on rows aliased t that no policy may take, whatever it says; 'true' when there is none. In it: the hold
-- column, `unless`, lull.holds, rows from before the adoption, and for lull.sessions its companions: one whose row was
-- seen stays until that row has been missing for 24 hours.
create or replace function lull.target_condition(p_target lull.targets)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(string_agg(x.condition, ' and '), 'true')
    from (
      select format('not t.%I', p_target.hold_column) as condition where p_target.hold_column is not null
      union all
      select format('not (%s)', p_target.unless) where p_target.unless is not null
      union all
      -- Both questions are asked once a statement: where nothing is held, a row costs nothing.
      select format('(not exists (select 1 from lull.holds h where h.target = %1$L) or %2$s <> all (array('
          'select h.key from lull.holds h where h.target = %1$L and (h.until is null or h.until > now()))))',
        p_target.name, lull.key_expression(p_target.key_columns))
      where not p_target.builtin or p_target.name in ('lull.sessions', 'lull.user_sessions')
      union all
      select format('t.%I > %L::pg_catalog.timestamptz', p_target.clock_column, p_target.adopted_at)
      where p_target.kind is not null and not p_target.existing and p_target.clock_column is not null
      union all
      select format('(t.companion_of is null or t.companion_of = any (%L::pg_catalog.text[]) and not %s and ('
          't.row_seen_at is null or t.row_missing_since < now() - interval ''24 hours''))',
        array(select name from lull.targets where kind is not null and to_regclass(name) is not null),
        lull.has_row_expression())
      where p_target.name = 'lull.sessions'
    ) x);
end
$$;

-- The key of a row t as one text: the value of a single column, a JSON array of several (as lull.key_text has it).
create or replace function lull.key_expression(p_columns text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case cardinality(p_columns) when 1 then format('t.%I::pg_catalog.text', p_columns[1])
    else (select format('jsonb_build_array(%s)::pg_catalog.text',
        string_agg(format('t.%I::pg_catalog.text', c), ', ' order by n))
      from unnest(p_columns) with ordinality u (c, n)) end;
$$;

-- Whether the session t of lull.sessions is a companion whose row is there, as SQL: asked of the table that it names.
create or replace function lull.has_row_expression()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce('case t.companion_of' || string_agg(format(
        ' when %L then exists (select 1 from %s r where r.%I = t.id%s)', g.name, to_regclass(g.name), g.key_columns[1],
        case when g.owner_column is not null then format(
          ' and (r.%1$I is null or t.row_seen_at is not null or t.owner_id = r.%1$I'
          ' or t.owner_id is null and t.owner_token_hash is null)', g.owner_column) else '' end),
      '' order by g.name) || ' else false end', 'false')
    from lull.targets g
    where g.kind is not null and to_regclass(g.name) is not null
      and not exists (
        select 1 from unnest(array[g.key_columns[1], g.owner_column]) n (name)
        where n.name is not null and not exists (
          select 1 from pg_catalog.pg_attribute a
          where a.attrelid = to_regclass(g.name) and a.attname = n.name and not a.attisdropped)));
end
$$;

-- All that an adoption says, as text: one that was changed is not what a run began with. Null: no such target.
create or replace function lull.adoption_of(p_target text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
  select g::text from lull.targets g where g.name = p_target;
$$;

-- The lines of a policy: the policy itself, with what its own target says of the tables below, then one derived policy
-- for each adopted table whose sessions are of its kind and status. One that an older release adopted without a clock
-- has none: nothing of it goes, and the doctor names it.
create or replace function lull.policy_lines(p_policy lull.policy_definition)
returns setof lull.policy_definition
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when coalesce(g.below, '{}') = '{}' or g.kind is not null then p_policy
    else jsonb_populate_record(p_policy, jsonb_build_object(
      'below', g.below || coalesce(p_policy.below, '{}'))) end
  from (select 1) one
  left join lull.targets g on g.name = p_policy.target
  union all
  (select jsonb_populate_record(p_policy, jsonb_build_object(
      'name', p_policy.name || ':' || g.name, 'base', p_policy.name, 'target', g.name, 'clock', g.clock_column,
      'equals', case when g.status_column is null then '{}'
        else jsonb_build_object(g.status_column, lull.values_of(g, p_policy.equals -> 'status')) end,
      'nulls', case when g.first_message_column is not null and 'first_message_at' = any (p_policy.nulls)
        then jsonb_build_array(g.first_message_column) else '[]' end,
      'below', g.below, 'also_clocks', '[]'::jsonb))
  from lull.targets g
  where p_policy.target = 'lull.sessions' and p_policy.clock = 'last_activity_at'
    and p_policy.equals ->> 'kind' = g.kind and g.clock_column is not null
    and p_policy.equals - 'kind' - 'status' = '{}' and p_policy.nulls <@ '{first_message_at}'
    and case when g.status_column is not null then lull.values_of(g, p_policy.equals -> 'status') <> '[]'
      else p_policy.equals -> 'status' = case g.kind when 'chat' then '"draft"' else '"active"' end::jsonb end
  order by g.name);
$$;

-- The values of a table's status column that mean one of these words (a text or an array of them), as a JSON array.
create or replace function lull.values_of(p_target lull.targets, p_words jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(v), '[]')
  from jsonb_each(p_target.statuses) s, jsonb_array_elements(s.value) v
  where p_words @> to_jsonb(s.key);
$$;
