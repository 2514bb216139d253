-- Cleanup, compilation: the statements that lock and read what is below stale rows, and archive it (compile.sql).

-- The statement that locks what hangs directly below places of one table, one part a foreign key, and judges it.
--   $1 tables, $2 ctids, $3 roots   of places;  $4 cutoff;  $5 most rows of one foreign key
-- Locks without waiting. Returns the places found with their sizes, and the roots that are in use with the newest
-- clock.
create or replace function lull.level_statement(p_policy lull.policy_definition, p_node oid)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with edge as (
    select row_number() over (order by c.n, g.constraint_name) as i, g.referenced, g.child, c.rule, c.clock,
      case when exists (select 1 from pg_catalog.pg_class where oid = g.referenced and relkind = 'p')
        then 'p.tableoid = p0.tab and p.ctid = p0.ctid'
        else format('p.ctid = p0.ctid and p0.tab = %s', g.referenced) end as place,
      lull.edge_match(g.constraint_oid, g.parent, g.parent_columns, 'p', 'c') as match
    from lull.cascade_graph(p_policy.target::regclass) g
    join lull.cascade_nodes(p_policy) c on c.node = g.child
    where g.cascades and g.parent = p_node
  ), part as (
    select e.i, case
      when e.rule in ('keeps', 'target') then format(
        'e%s as (select null::oid as tab, null::tid as ctid, p0.root, true as keeps, null::timestamptz as seen,
           0::bigint as size
         from p0 join %s on %s where exists (select 1 from %s where %s))',
        e.i, lull.from_table(e.referenced, 'p'), e.place, lull.from_table(e.child, 'c'), e.match)
      else format(
        'e%s as materialized (select c.tableoid as tab, c.ctid, p0.root, %s as keeps, %s as seen, %s as size
         from p0 join %s on %s join %s on %s limit $5 for update of c nowait)',
        e.i,
        case e.rule when 'clock' then format('(c.%I < $4) is not true', e.clock) else 'false' end,
        case e.rule when 'clock' then format('c.%I::timestamptz', e.clock) else 'null::timestamptz' end,
        case when p_policy.archive then lull.size_expression(e.child, 'c') else '0::bigint' end,
        lull.from_table(e.referenced, 'p'), e.place, lull.from_table(e.child, 'c'), e.match) end as text
    from edge e
  )
  select format(
    'with p0 as materialized (
       select * from unnest($1::oid[], $2::tid[], $3::integer[]) p (tab, ctid, root) where p.tab = any (%L::oid[])
     ), %s
     select coalesce(array_agg(x.tab) filter (where x.tab is not null), ''{}'') as tabs,
       coalesce(array_agg(x.ctid) filter (where x.tab is not null), ''{}'') as ctids,
       coalesce(array_agg(x.root) filter (where x.tab is not null), ''{}'') as roots,
       coalesce(array_agg(x.size) filter (where x.tab is not null), ''{}'') as sizes,
       coalesce(array_agg(x.root) filter (where x.keeps), ''{}'') as in_use,
       coalesce(array_agg(x.seen) filter (where x.keeps), ''{}'') as seen
     from (%s) x',
    lull.leaf_tables(p_node), string_agg(p.text, ', ' order by p.i),
    string_agg(format('select * from e%s', p.i), ' union all ' order by p.i))
  from part p
  having count(*) > 0;
$$;

-- All of them, numbered, each with the tables that store the rows of its places.
create or replace function lull.level_statements(p_policy lull.policy_definition)
returns table (n integer, leaves oid[], statement text)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select row_number() over (order by c.n)::integer, c.leaves, s
  from lull.cascade_nodes(p_policy) c
  cross join lull.level_statement(p_policy, c.node) s
  where c.rule <> 'keeps' and s is not null;
$$;

-- The statement that finds rows from outside which refer to places by a foreign key that does not cascade: $1 tables,
-- $2 ctids, $3 roots. Returns the roots that stay and why; null when no such key is there.
create or replace function lull.ties_statement(p_policy lull.policy_definition)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with node as materialized (
    select * from lull.cascade_nodes(p_policy)
  ), part as (
    select format(
      'select p0.root, %L as reason from p0 join %s on %s where exists (select 1 from %s where %s%s)',
      format('a row of %s from outside refers to it (%s)', g.child::regclass, g.constraint_name),
      lull.from_table(g.referenced, 'p'),
      case when exists (select 1 from pg_catalog.pg_class where oid = g.referenced and relkind = 'p')
        then 'p.tableoid = p0.tab and p.ctid = p0.ctid'
        else format('p.ctid = p0.ctid and p0.tab = %s', g.referenced) end,
      lull.from_table(g.child, 'c'), lull.key_match(g.constraint_oid, 'p', 'c'),
      case when exists (select 1 from node n where n.leaves && lull.leaf_tables(g.child)) then
        ' and not exists (select 1 from p0 s where s.tab = c.tableoid and s.ctid = c.ctid and s.root = p0.root)'
        else '' end) as text
    from lull.cascade_graph(p_policy.target::regclass) g
    where not g.cascades
  )
  select format(
    'with p0 as materialized (select * from unnest($1::oid[], $2::tid[], $3::integer[]) p (tab, ctid, root))
     select coalesce(array_agg(x.root), ''{}''), coalesce(array_agg(x.reason), ''{}'') from (%s) x',
    string_agg(p.text, ' union all '))
  from part p
  having count(*) > 0;
$$;

-- The statement that reads places as the content of one page: $1 tables, $2 ctids, $3 roots. Returns the content and
-- how many rows it has.
create or replace function lull.page_statement(p_policy lull.policy_definition)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with node as materialized (
    select * from lull.cascade_nodes(p_policy) where cardinality(own_leaves) > 0 and rule <> 'keeps'
  )
  select format(
    'with place as materialized (
       select * from unnest($1::oid[], $2::tid[], $3::integer[]) p (tab, ctid, root)
     ) select (select json_agg(e.entry) from (%s) e (n, entry) where e.n > 0) as content, %s as rows from %s',
    string_agg(format('select x%1$s.n, case when x%1$s.n > 0 then json_build_object(
        ''table'', %2$L, ''columns'', %3$L::json, ''rows'', x%1$s.rows) end', n.n, n.archived_as, (
      select json_agg(c.name order by c.n)
      from lull.table_columns(n.node) with ordinality c (name, type, is_generated, keeps_blanks, n))),
      ' union all ' order by n.n),
    string_agg(format('x%s.n', n.n), ' + '),
    string_agg(format(
      '(select count(*) as n, json_agg(array_to_json(array[p.root::text, %s]::text[])) as rows
        from place p join %s on %s where p.tab = any (%L::oid[])) x%s',
      lull.text_forms(n.node, 'c'), lull.from_table(n.node, 'c'),
      case when n.is_partitioned then 'c.tableoid = p.tab and c.ctid = p.ctid' else 'c.ctid = p.ctid' end,
      n.own_leaves, n.n), ', ' order by n.n))
  from node n;
$$;

-- The statement that archives many places: $1 tables, $2 ctids, $3 roots, $4 run, $5 policy, $6 restore window, and by
-- root $7 keys, $8 owners. It reads each row by its place, packs roots with everything below them into pages of 4 MB,
-- and lists their keys. Returns how many rows and roots were archived.
create or replace function lull.archive_statement(p_policy lull.policy_definition)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with node as materialized (
    select * from lull.cascade_nodes(p_policy) where cardinality(own_leaves) > 0 and rule <> 'keeps'
  )
  select format(
    'with place as materialized (
       select * from unnest($1::oid[], $2::tid[], $3::integer[]) p (tab, ctid, root)
     ), %s, packed as (
       select x.*, (sum(pg_column_size(x.doc)) over (order by x.root, x.tab rows unbounded preceding)
         / 4194304)::integer as page
       from (%s) x
     ), part as (
       select p.page, p.tab, count(*) as rows, json_agg(p.doc order by p.root) as docs
       from packed p group by p.page, p.tab
     ), number as materialized (
       select p.page, nextval(''lull.archive_pages_id_seq'') as id
       from (select distinct page from part order by page) p
     ), page as (
       insert into lull.archive_pages (id, batch, run_id, policy, target, rows, content, purge_after)
       select n.id, min(n.id) over (), $4, $5, %L, c.rows, c.content, now() + $6
       from number n
       join (
         select p.page, sum(p.rows) as rows, json_agg(json_build_object(
           ''table'', h.name, ''columns'', h.columns, ''rows'', p.docs) order by p.tab) as content
         from part p
         join (values %s) h (tab, name, columns) on h.tab = p.tab
         group by p.page
       ) c on c.page = n.page
       returning rows
     ), listed as (
       insert into lull.archive_keys (page, target, key, owner, root)
       select n.id, %L, ($7::text[])[d.root], ($8::uuid[])[d.root], d.root
       from (select distinct page, root from packed) d
       join number n on n.page = d.page
       order by ($7::text[])[d.root]
       returning root
     )
     select (select coalesce(sum(rows), 0) from page), (select count(distinct root) from listed)',
    (select string_agg(format(
        't%s as (select %1$s as tab, p.root, array_to_json(array[p.root::text, %s]::text[]) as doc
           from place p join %s on %s where p.tab = any (%L::oid[]))',
        n.n, lull.text_forms(n.node, 'c'), lull.from_table(n.node, 'c'),
        case when n.is_partitioned then 'c.tableoid = p.tab and c.ctid = p.ctid' else 'c.ctid = p.ctid' end,
        n.own_leaves), ', ' order by n.n) from node n),
    (select string_agg(format('select * from t%s', n.n), ' union all ' order by n.n) from node n),
    p_policy.target,
    (select string_agg(format('(%s, %L, %L::json)', n.n, n.archived_as,
      (select json_agg(c.name order by c.n)
        from lull.table_columns(n.node) with ordinality c (name, type, is_generated, keeps_blanks, n))),
      ', ' order by n.n) from node n),
    p_policy.target);
$$;
