-- Cleanup, adoption: put a team's own table on the list of tables that policies may act on, and take it off again.
-- Adopting reads the catalog and stores what was said; nothing is added to the table. Checked with the rights of
-- Lull's owner, whatever role calls: the cleanup has no others.

-- Put any table on the list: a policy of yours names it.
--   p_clock  its timestamptz column that activity moves      p_key   a unique column (default: the primary key)
--   p_hold   a boolean column that protects a row, if any
--   p_below  what rows of a table below mean: {"public.parts": "keeps" | "goes along" | {"clock": column}}; a table
--            that is not named goes along
--   p_trust  roles whose code may run as Lull's owner
--   p_search_path   under which that code runs (default: the database's)
-- Raises 422 with every reason at once, and the statements that mend them as the hint; adopting a table again updates
-- its entry. Returns a sentence.
create or replace function lull.adopt(
  p_table regclass, p_clock text, p_key text default null, p_hold text default null, p_below jsonb default '{}',
  p_trust text[] default '{}', p_search_path text default null)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_target lull.targets;
begin
  v_target.name := p_table::text;
  v_target.key_columns := coalesce(lull.unique_key(p_table, p_key), array_remove(array[p_key], null));
  v_target.hold_column := p_hold;
  v_target.clock_column := p_clock;
  v_target.below := lull.canonical_below(p_below);
  v_target.existing := true;
  v_target.trust := coalesce(p_trust, '{}');
  v_target.search_path := lull.with_temp_last(coalesce(p_search_path, lull.database_path()));
  v_target.relation := p_table::oid;
  v_target.statuses := '{}';
  perform lull.refuse_adoption(v_target, case when p_clock is null
    then '[{"reason": "its clock is missing"}]' else '[]' end::jsonb);
  perform lull.store_target(v_target);
  return format('%s is adopted: a policy may act on it now. Nothing was changed in it.', p_table);
end
$$;

-- Names of tables as the database writes them; what names no table is left as it is.
create or replace function lull.canonical_below(p_below jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(coalesce(to_regclass(b.key)::text, b.key), b.value), '{}')
  from jsonb_each(case jsonb_typeof(p_below) when 'object' then p_below else '{}' end) b;
$$;

-- Refuse a target with every fault of it, and these besides ([{"reason", "statement"}]): 422, with the statements that
-- mend them as the hint. Returns when there is none.
create or replace function lull.refuse_adoption(p_target lull.targets, p_more jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_reasons text;
  v_statements text;
begin
  select string_agg(f.reason, '; '), string_agg(distinct f.statement, E'\n')
  into v_reasons, v_statements
  from (
    select * from lull.adoption_faults(p_target)
    union all
    select x ->> 'reason', x ->> 'statement' from jsonb_array_elements(p_more) x
  ) f;
  if v_reasons is not null then
    perform lull.refuse(422, 'not-adoptable', format('%s cannot be adopted: %s.', p_target.name, v_reasons),
      coalesce(v_statements, ''));
  end if;
end
$$;

-- The faults of a target at its adoption: those of every day, names in `below` that are no table below it, and a clock
-- that no index serves.
create or replace function lull.adoption_faults(p_target lull.targets)
returns table (reason text, statement text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from lull.own_table_faults(p_target);
  if exists (select 1 from lull.relation_faults(p_target)) then
    return;
  end if;
  return query
    select format('%s is no table below it', b.key), null::text
    from jsonb_object_keys(p_target.below) b (key)
    where to_regclass(b.key) is null or not exists (
      select 1 from lull.tables_below(to_regclass(p_target.name)) x
      where x.child = to_regclass(b.key) or to_regclass(b.key) in (select pg_catalog.pg_partition_ancestors(x.child)))
    union all
    select format('no index begins its order with the clock %s (or with the columns of a policy and then %s)',
      p_target.clock_column, p_target.clock_column),
      format('create index on %s (%I, %s);', p_target.name, p_target.clock_column, (
        select string_agg(quote_ident(k), ', ') from unnest(p_target.key_columns) k))
    where p_target.kind is null and p_target.clock_column is not null and not exists (
      select 1
      from pg_catalog.pg_index i
      join pg_catalog.pg_class c on c.oid = i.indexrelid
      join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])
      where i.indrelid = to_regclass(p_target.name) and i.indisvalid and a.attname = p_target.clock_column);
end
$$;

-- Store an entry. The date of the adoption stays when the table was adopted before; the version is a new one, so that
-- an open run compiles its statements anew.
create or replace function lull.store_target(p_target lull.targets)
returns lull.targets
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into lull.targets as g (name, key_columns, hold_column, builtin, kind, owner_column, status_column, statuses,
    first_message_column, clock_column, below, existing, participants, trust, search_path, relation)
  values (p_target.name, p_target.key_columns, p_target.hold_column, false, p_target.kind, p_target.owner_column,
    p_target.status_column, p_target.statuses, p_target.first_message_column, p_target.clock_column, p_target.below,
    p_target.existing, p_target.participants, p_target.trust, p_target.search_path, p_target.relation)
  on conflict (name) do update set
    key_columns = excluded.key_columns, hold_column = excluded.hold_column, kind = excluded.kind,
    owner_column = excluded.owner_column, status_column = excluded.status_column, statuses = excluded.statuses,
    first_message_column = excluded.first_message_column, clock_column = excluded.clock_column,
    below = excluded.below, existing = excluded.existing, participants = excluded.participants,
    trust = excluded.trust, search_path = excluded.search_path, relation = excluded.relation,
    version = pg_current_xact_id()
  where not g.builtin
  returning * into p_target;
  return p_target;
end
$$;

-- Take a table off the list: no policy acts on it any more, and nothing in it changes. Works by name, also when the
-- table is gone or was renamed. Policies of its own are forgotten until the next migration names them; companions and
-- holds stay, so that an adoption later finds them. What is archived stays restorable. Returns a sentence.
create or replace function lull.release(p_table text)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_name text := coalesce(to_regclass(p_table)::text, p_table);
  v_target lull.targets;
  v_companions bigint;
begin
  select * into v_target from lull.targets where name in (v_name, p_table, 'public.' || p_table) and not builtin
  for update;
  if not found then
    perform lull.refuse(422, 'not-adoptable', format('%s is not adopted; adopted are: %s.', v_name, coalesce((
      select string_agg(name, ', ' order by name) from lull.targets where not builtin), 'none')));
  end if;
  delete from lull.policies where target = v_target.name;
  delete from lull.targets where name = v_target.name;
  select count(*) into v_companions from lull.sessions where companion_of = v_target.name;
  return format('%s is released: Lull reads and deletes nothing in it any more. Nothing was changed in it.%s%s',
    v_target.name,
    case when v_companions > 0 then format(
      ' %s companions (files, participants, tokens) stay and are cleaned by no policy.', v_companions) else '' end,
    ' What was archived can still be restored.');
end
$$;
