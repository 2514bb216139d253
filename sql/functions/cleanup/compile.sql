-- Cleanup, compilation: the statements of a policy's batches, made once from the catalog and the policy, and kept with
-- the run as text. Batches run them (cleanup/batches.sql) as long as the catalog's fingerprint is that of the
-- compilation.
--
-- A *place* is a row by (table, ctid, root): the table that stores it and the ordinal of its root in the batch.

-- The tables of a policy's cascade: the target (depth 0) and what is below it, parents first.
--   rule       target | keeps (any row: its root is in use) | clock (a newer row: in use) | along (says nothing)
--   leaves     the tables that store its rows;  own_leaves  those that no table before it has
-- Unnamed tables keep, except below a table of lull.adopt() or a table that goes along.
create or replace function lull.cascade_nodes(p_policy lull.policy_definition)
returns table (
  n integer, node oid, archived_as text, leaves oid[], own_leaves oid[], is_partitioned boolean, rule text, clock text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  return query
  with recursive graph as materialized (
    select * from lull.cascade_graph(p_policy.target::regclass) where cascades
  ), named as materialized (
    select to_regclass(b.key)::oid as tab, b.value from jsonb_each(coalesce(p_policy.below, '{}')) b
  ), level (node, depth) as (
    select p_policy.target::regclass::oid, 0
    union
    select g.child, l.depth + 1 from level l join graph g on g.parent = l.node where l.depth < 12
  ), table_of as (
    select l.node, min(l.depth) as depth,
      (select d.value from named d where d.tab = any (lull.partition_family(l.node))
        order by d.tab = l.node desc limit 1) as named
    from level l group by l.node
  ), ruled as materialized (
    select t.node, t.depth, coalesce(t.named, case t.node
      when 'lull.session_participants'::regclass then '{"clock": "last_seen_at"}'::jsonb
      when 'lull.session_files'::regclass then '"goes along"'
      when 'lull.invites'::regclass then '"goes along"'
      when 'lull.session_items'::regclass then '"goes along"'
      when lull.companion_table(p_policy.target::regclass) then '{"clock": "last_activity_at"}' end) as value
    from table_of t
  ), kept (node) as (
    -- what unnamed tables are reached by without passing one that goes along
    select p_policy.target::regclass::oid where lull.keeps_unnamed(p_policy.target)
    union
    select g.child
    from kept k
    join graph g on g.parent = k.node
    join ruled r on r.node = g.child
    where r.value is distinct from '"goes along"'
  ), numbered as (
    select (row_number() over (order by r.depth, r.node::regclass::text))::integer as n, r.node, r.depth, r.value,
      lull.leaf_tables(r.node) as leaves
    from ruled r
  )
  select x.n, x.node, coalesce(pg_catalog.pg_partition_root(x.node), x.node)::regclass::text, x.leaves,
    array(select l from unnest(x.leaves) l
      where not exists (select 1 from numbered y where y.n < x.n and l = any (y.leaves))),
    c.relkind = 'p',
    case
      when x.depth = 0 then 'target'
      when jsonb_typeof(x.value) = 'object' then 'clock'
      when x.value = '"keeps"' then 'keeps'
      when x.value is null and exists (select 1 from kept k where k.node = x.node) then 'keeps'
      else 'along' end,
    x.value ->> 'clock'
  from numbered x
  join pg_catalog.pg_class c on c.oid = x.node;
end
$$;

-- Whether tables below a target keep its rows unless a rule says otherwise: those of sessions, of Lull's or a team's.
create or replace function lull.keeps_unnamed(p_target text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return p_target = 'lull.sessions' or coalesce((
    select to_jsonb(g) ->> 'kind' is not null from lull.targets g where g.name = p_target and not g.builtin), false);
end
$$;

-- A table in a from clause: its own rows only, or those of its partitions.
create or replace function lull.from_table(p_table oid, p_alias text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select format('%s%s %s', case c.relkind when 'p' then '' else 'only ' end, c.oid::regclass, p_alias)
    from pg_catalog.pg_class c where c.oid = p_table);
end
$$;

-- The condition between a parent aliased p_parent and a child: by a foreign key or as a companion, which is that of the
-- row's owner where both have one.
create or replace function lull.edge_match(
  p_constraint oid, p_parent_table oid, p_parent_columns text[], p_parent text, p_child text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return case when p_constraint is not null then lull.key_match(p_constraint, p_parent, p_child)
    else (
      select format('%1$s.%2$I operator(pg_catalog.=) %3$s.id and %3$s.companion_of operator(pg_catalog.=) %4$L',
        p_parent, p_parent_columns[1], p_child, g.name) || case when g.owner_column is null then '' else format(
        ' and (%1$s.%2$I is null or %3$s.owner_id operator(pg_catalog.=) %1$s.%2$I'
        ' or %3$s.owner_id is null and %3$s.owner_token_hash is null)',
        p_parent, g.owner_column, p_child) end
      from lull.targets g where to_regclass(g.name) = p_parent_table) end;
end
$$;

-- A fingerprint of what the statements were made from: the tables behind their names, their columns, triggers (foreign
-- keys from and to a table have triggers on it), partitions, and the target's entry. A row of the catalog counts by its
-- place and the transaction that wrote it: a changed row is another one.
create or replace function lull.catalog_fingerprint(p_target text, p_names text[], p_relations oid[])
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return concat_ws(' ',
    (select string_agg(coalesce(to_regclass(u)::oid, 0)::text, ',' order by n)
      from unnest(p_names) with ordinality x (u, n)),
    (select bit_xor(hashtidextended(a.ctid, a.xmin::text::bigint))
      from pg_catalog.pg_attribute a where a.attrelid = any (p_relations) and a.attnum > 0),
    (select bit_xor(hashtidextended(t.ctid, t.xmin::text::bigint))
      from pg_catalog.pg_trigger t where t.tgrelid = any (p_relations)),
    (select bit_xor(hashtidextended(i.ctid, i.xmin::text::bigint))
      from pg_catalog.pg_inherits i where i.inhparent = any (p_relations)),
    hashtextextended(lull.adoption_of(p_target), 0));
end
$$;

-- Make the statements of a policy of a run, in place of those that were made before. Raises when the policy cannot be
-- acted on any more. Returns them.
create or replace function lull.compile_policy(
  p_run uuid, p_line text, p_policy lull.policy_definition, p_only_key text)
returns lull.compiled_policies
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_made lull.compiled_policies;
  v_target lull.targets;
  v_nodes oid[];
  v_leaves oid[];
begin
  select * into v_target from lull.targets where name = p_policy.target;
  v_made.run_id := p_run; v_made.policy := p_line;
  select array_agg(node order by n), array_agg(node::regclass::text order by n) into v_nodes, v_made.names
  from lull.cascade_nodes(p_policy);
  v_leaves := array(select l from lull.cascade_nodes(p_policy) c, unnest(c.own_leaves) l where c.rule <> 'keeps');
  v_made.counted := array(
    select unnest(v_leaves)
    union
    select l from lull.cascade_graph(p_policy.target::regclass) g, unnest(lull.leaf_tables(g.child)) l
    where not g.cascades);
  v_made.relations := array(
    select unnest(v_nodes) union select unnest(v_leaves) union select unnest(v_made.counted));
  v_made.fingerprint := lull.catalog_fingerprint(p_policy.target, v_made.names, v_made.relations);
  v_made.lock_statement := 'lock table ' || array_to_string(v_made.names, ', ') || ' in row exclusive mode nowait';
  v_made.first_statement := lull.select_statement(p_policy, false, p_only_key);
  v_made.next_statement := lull.select_statement(p_policy, true, p_only_key);
  select coalesce(array_agg(l.statement order by l.n), '{}') into v_made.level_statements
  from lull.level_statements(p_policy) l;
  select coalesce(array_agg(u.tab), '{}'), coalesce(array_agg(l.n), '{}')
  into v_made.level_tables, v_made.level_numbers
  from lull.level_statements(p_policy) l, unnest(l.leaves) u (tab);
  v_made.ties_statement := lull.ties_statement(p_policy);
  v_made.archive_statement := case when p_policy.archive then lull.archive_statement(p_policy) end;
  v_made.page_statement := case when p_policy.archive then lull.page_statement(p_policy) end;
  select array_agg(l order by c.n),
    array_agg(format('delete from only %s t where t.ctid = any ($1)', l::regclass) order by c.n)
  into v_made.delete_tables, v_made.delete_statements
  from lull.cascade_nodes(p_policy) c, unnest(c.leaves) l
  where c.rule = 'target' or c.node = lull.companion_table(p_policy.target::regclass);
  v_made.prepared_as := 'lull_cleanup_' || md5(concat_ws(' ', v_made.first_statement, v_made.next_statement,
    v_made.page_statement, v_made.level_statements));
  v_made.has_triggers := lull.has_team_triggers(v_leaves || v_nodes);
  v_made.is_shared := exists (
      select 1 from lull.cascade_graph(p_policy.target::regclass) g
      where g.cascades group by g.child having count(*) > 1)
    or (select sum(cardinality(c.leaves)) <> sum(cardinality(c.own_leaves)) from lull.cascade_nodes(p_policy) c);
  select coalesce(array_agg(distinct c.name), '{}'),
    coalesce(array_agg(distinct c.name) filter (where c.deferred), '{}')
  into v_made.checks_now, v_made.checks_later
  from lull.deferrable_constraints(v_nodes || v_leaves) c;
  v_made.team_path := case when v_target.builtin and not v_made.has_triggers then 'pg_catalog, pg_temp'
    else lull.team_path(v_target) end;
  delete from lull.compiled_policies where run_id = p_run and policy = p_line;
  insert into lull.compiled_policies values (v_made.*);
  return v_made;
end
$$;
