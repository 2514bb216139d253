-- Cleanup, compilation: the statement that selects stale rows, and what keeps one (compile.sql).

-- Conditions, on rows aliased t of the target, that leave out what rows below keep: one for each way down to a table
-- with a rule. p_clocks: those by a clock, too; the cutoff is p_cutoff (an expression). A selection in lull.sessions
-- takes what clocks keep, so that a batch can move the session's own clock.
create or replace function lull.kept_below(p_policy lull.policy_definition, p_cutoff text, p_clocks boolean)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    with recursive node as materialized (
      select * from lull.cascade_nodes(p_policy)
    ), edge as materialized (
      select row_number() over () as i, g.* from lull.cascade_graph(p_policy.target::regclass) g where g.cascades
    ), way (child, depth, edges, tables, condition) as (
      select e.child, 1, array[e.i], lull.from_table(e.child, 'c1'),
        lull.way_match(e.constraint_oid, e.parent, e.referenced, e.parent_columns, 't', 'c1')
      from edge e where e.parent = p_policy.target::regclass
      union all
      select e.child, w.depth + 1, w.edges || e.i,
        w.tables || ', ' || lull.from_table(e.child, 'c' || w.depth + 1),
        w.condition || ' and ' || lull.way_match(e.constraint_oid, e.parent, e.referenced, e.parent_columns,
          'c' || w.depth, 'c' || w.depth + 1)
      from way w
      join edge e on e.parent = w.child
      join node n on n.node = w.child
      where n.rule in ('along', 'clock') and e.i <> all (w.edges) and w.depth < 5
    )
    select string_agg(format('not exists (select 1 from %s where %s%s)', w.tables, w.condition,
      case when n.rule = 'clock' then format(' and (c%s.%I < %s) is not true', w.depth, n.clock, p_cutoff) else '' end),
      ' and ' order by w.edges)
    from way w
    join node n on n.node = w.child
    where n.rule in ('keeps', 'target') or (p_clocks and n.rule = 'clock'));
end
$$;

-- One step of such a way: the key's match, and the partition that the key refers to.
create or replace function lull.way_match(
  p_constraint oid, p_parent_table oid, p_referenced oid, p_parent_columns text[], p_parent text, p_child text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return lull.edge_match(p_constraint, p_parent_table, p_parent_columns, p_parent, p_child) || case
    when p_referenced = p_parent_table or p_referenced <> all (array(
      select t.relid::oid from pg_catalog.pg_partition_tree(p_parent_table) t)) then ''
    else format(' and %s.tableoid = any (%L::oid[])', p_parent, lull.leaf_tables(p_referenced)) end;
end
$$;

-- A conjunction of conditions, those that are null left out.
create or replace function lull.all_of(variadic p_conditions text[])
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(string_agg(c, ' and ' order by n), 'true')
    from unnest(p_conditions) with ordinality u (c, n) where c is not null);
end
$$;

-- The statement that selects and locks stale rows, oldest first; rows that others hold are passed over.
--   $1 cutoff, $2 most rows;  p_resumed: behind $3 the clock and $4 the key of the last row locked;  p_only_key: this
--   row
-- Returns places, keys, owners and sizes in order, and the newest clock; nulls when there is no row.
create or replace function lull.select_statement(
  p_policy lull.policy_definition, p_resumed boolean, p_only_key text default null)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    'select array_agg(%s) as tabs, array_agg(x.ctid) as ctids, array_agg(x.key) as keys, array_agg(x.owner) as owners,
       array_agg(x.size) as sizes, max(x.clock) as clock
     from (
       select %st.ctid, %s as key, %s as owner, %s as size, t.%I as clock
       from %s where %s order by t.%I, %s limit $2 for update of t skip locked
     ) x',
    case c.relkind when 'p' then 'x.tableoid' else format('%s::oid', c.oid) end,
    case c.relkind when 'p' then 't.tableoid, ' else '' end,
    lull.key_form(g.key_columns, 't'),
    case when p_policy.target = 'lull.sessions' then 't.owner_id'
      when g.owner_column is null then 'null::uuid' else format('t.%I', g.owner_column) end,
    case when p_policy.archive then lull.size_expression(c.oid, 't') else '0::bigint' end,
    p_policy.clock,
    lull.from_table(c.oid, 't'),
    lull.all_of(lull.stale_condition(p_policy, '$1', p_policy.target <> 'lull.sessions'),
      case when p_resumed then lull.cursor_condition(p_policy, g.key_columns, '$3', '$4') end,
      case when p_only_key is not null then format('%s = %L', lull.key_form(g.key_columns, 't'), p_only_key) end),
    p_policy.clock,
    (select string_agg(format('t.%I', k.name), ', ' order by k.n)
      from unnest(g.key_columns) with ordinality k (name, n)))
  from lull.targets g
  join pg_catalog.pg_class c on c.oid = to_regclass(g.name)
  where g.name = p_policy.target;
$$;

-- The condition "behind the cursor" on rows aliased t; p_clock and p_key are expressions, the key as an array of text.
-- Key columns of types from elsewhere have no row comparison under our search path: for them rows of the cursor's own
-- clock are compared one by one.
create or replace function lull.cursor_condition(
  p_policy lull.policy_definition, p_key_columns text[], p_clock text, p_key text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when bool_and(t.typnamespace = 'pg_catalog'::regnamespace and t.typtype = 'b') then
    format('(t.%I, %s) > (%s, %s)', p_policy.clock, string_agg(format('t.%I', k.name), ', ' order by k.n), p_clock,
      string_agg(format('(%s)[%s]::%s', p_key, k.n, pg_catalog.format_type(a.atttypid, -1)), ', ' order by k.n))
  else
    format('t.%1$I >= %2$s and (t.%1$I > %2$s or lull.is_behind(array[%3$s], %4$s, %5$L::text[]))', p_policy.clock,
      p_clock, string_agg(format('t.%I::text', k.name), ', ' order by k.n), p_key,
      array_agg(pg_catalog.format_type(a.atttypid, -1) || lull.collate_as(a.attrelid, k.name) order by k.n)) end
  from unnest(p_key_columns) with ordinality k (name, n)
  join pg_catalog.pg_attribute a on a.attrelid = p_policy.target::regclass and a.attname = k.name
  join pg_catalog.pg_type t on t.oid = a.atttypid;
$$;

-- Whether a key comes after another in the order of its types' default operator classes. p_types: with the collations
-- of the columns. For types that are not pg_catalog's: each comparison is a statement.
create or replace function lull.is_behind(p_key text[], p_cursor text[], p_types text[])
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_behind boolean;
begin
  execute format(
    'select (select x.n from (values (1, %s), (2, %s)) x (n, %s) order by %s, x.n desc limit 1) = 2
       and $1 is distinct from $2',
    (select string_agg(format('($1)[%s]::%s', n, t), ', ' order by n) from unnest(p_types) with ordinality u (t, n)),
    (select string_agg(format('($2)[%s]::%s', n, t), ', ' order by n) from unnest(p_types) with ordinality u (t, n)),
    (select string_agg('k' || n, ', ' order by n) from unnest(p_types) with ordinality u (t, n)),
    (select string_agg('x.k' || n, ', ' order by n) from unnest(p_types) with ordinality u (t, n)))
  into v_behind
  using p_key, p_cursor;
  return v_behind;
end
$$;
