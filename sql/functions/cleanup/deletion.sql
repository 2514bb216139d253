-- Cleanup, the removal: what a batch does with stale rows. Lock them and everything below them, judge them again,
-- archive, delete, and prove that what was deleted is what was archived. The statements are compiled (compile.sql).
--
-- LU002 says that a batch is too large for its limits: it is halved, and no row is to blame.

-- Take one batch of an open policy: p_size rows behind the line's cursor. Raises unless exactly what was locked and
-- archived was deleted, so that the batch undoes itself.
--   o_locked   rows locked, those that stay included;  o_clock, o_key  of the last one
--   o_kept     [{"key", "reason"}]: judged stale, and kept;  o_elsewhere  what triggers deleted in other tables
create or replace function lull.take_batch(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_size integer,
  out o_locked integer, out o_deleted integer, out o_cascaded integer, out o_files integer, out o_clock timestamptz,
  out o_key text[], out o_kept jsonb, out o_elsewhere jsonb, out o_below jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_tabs oid[];
  v_ctids tid[];
  v_keys text[];
  v_owners uuid[];
  v_sizes bigint[];
  v_below record;
begin
  o_deleted := 0; o_cascaded := 0; o_files := 0; o_kept := '[]'; o_elsewhere := '{}'; o_below := '{}';
  select * into v_tabs, v_ctids, v_keys, v_owners, v_sizes, o_clock from lull.select_rows(p_line, p_made, p_size);
  o_locked := coalesce(cardinality(v_ctids), 0);
  if o_locked = 0 then
    return;
  end if;
  o_key := lull.key_values(v_keys[o_locked], p_policy.target);
  v_below := lull.lock_below(p_line, p_policy, p_made, v_tabs, v_ctids, v_sizes, v_keys);
  o_kept := v_below.o_kept;
  o_deleted := v_below.o_left;
  if o_deleted > 0 then
    perform lull.archive_places(p_line, p_policy, p_made, v_below.o_tabs, v_below.o_ctids, v_below.o_roots, o_deleted,
      v_below.o_size, v_keys, v_owners);
    o_elsewhere := lull.delete_places(p_made, v_below.o_tabs, v_below.o_ctids);
    o_cascaded := cardinality(v_below.o_ctids) - o_deleted;
    if o_cascaded > 0 then
      -- the roots come first among the places
      select jsonb_object_agg(coalesce(pg_partition_root(b.tab), b.tab)::regclass::text, b.n),
        coalesce(sum(b.n) filter (where b.tab = 'lull.session_files'::regclass), 0)
      into o_below, o_files
      from (select t as tab, count(*) as n from unnest(v_below.o_tabs[o_deleted + 1:]) t group by t) b;
    end if;
  end if;
end
$$;

-- Select and lock up to p_size stale rows behind the line's cursor, as compiled. Every join is along an index, whatever
-- a plan for any size would estimate.
create or replace function lull.select_rows(
  p_line lull.cleanup_run_policies, p_made lull.compiled_policies, p_size integer, out tabs oid[], out ctids tid[],
  out keys text[], out owners uuid[], out sizes bigint[], out clock timestamptz)
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
  c_few constant integer := 100;
begin
  if p_size > c_few and p_line.cursor_clock is null then
    execute p_made.first_statement into tabs, ctids, keys, owners, sizes, clock using p_line.cutoff, p_size;
  elsif p_size > c_few then
    execute p_made.next_statement into tabs, ctids, keys, owners, sizes, clock
    using p_line.cutoff, p_size, p_line.cursor_clock, p_line.cursor_key;
  elsif p_line.cursor_clock is null then
    execute format('execute %s_first (%L, %L)', p_made.prepared_as, p_line.cutoff, p_size)
    into tabs, ctids, keys, owners, sizes, clock;
  else
    execute format('execute %s_next (%L, %L, %L, %L)', p_made.prepared_as, p_line.cutoff, p_size, p_line.cursor_clock,
      p_line.cursor_key)
    into tabs, ctids, keys, owners, sizes, clock;
  end if;
end
$$;

-- The values of a key's columns from its text.
create or replace function lull.key_values(p_key text, p_target text)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if (select cardinality(key_columns) from lull.targets where name = p_target) = 1 then
    return array[p_key];
  end if;
  return array(select jsonb_array_elements_text(p_key::jsonb));
end
$$;

-- Lock everything below locked rows, level by level, each `for update nowait`, and judge them. A level is complete,
-- because its parents are locked and each statement has a snapshot of its own. What a root that stays had below it is
-- left out of the places returned. o_left: how many roots go; o_size: about how many bytes of text all places are.
create or replace function lull.lock_below(
  p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_tabs oid[],
  p_ctids tid[], p_sizes bigint[], p_keys text[],
  out o_tabs oid[], out o_ctids tid[], out o_roots integer[], out o_left integer, out o_size bigint, out o_kept jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant bigint := 100000;  -- rows below the roots of one batch, by one foreign key
  v_count constant integer := cardinality(p_ctids);
  v_limit bigint := case when p_line.only_key is not null then p_line.allowed + 1
    when v_count = 1 then p_policy.max_below_root + 1
    else greatest(c_most, p_policy.max_below_root) + 1 end;
  v_sizes bigint[] := p_sizes;
  v_levels record;
  v_in_use integer[] := '{}';
  v_stay integer[] := '{}';
  v_reasons text[] := '{}';
  v_over record;
begin
  o_roots := array(select generate_series(1, v_count));
  o_tabs := p_tabs; o_ctids := p_ctids; o_kept := '[]'; o_left := v_count;
  if p_made.level_statements <> '{}' then
    v_levels := lull.lock_levels(p_line, p_made, p_tabs, p_ctids, p_sizes, v_limit);
    o_tabs := v_levels.o_tabs; o_ctids := v_levels.o_ctids; o_roots := v_levels.o_roots; v_sizes := v_levels.o_sizes;
    v_in_use := v_levels.o_in_use;
    if v_in_use <> '{}' then
      perform lull.follow_clocks(p_policy, p_ctids, v_in_use, v_levels.o_seen);
    end if;
  end if;
  o_size := (select sum(s) from unnest(v_sizes) s);
  if p_made.ties_statement is not null then
    execute p_made.ties_statement into v_stay, v_reasons using o_tabs, o_ctids, o_roots;
  end if;
  if p_policy.archive and p_line.only_key is null
    and (cardinality(o_ctids) - v_count > p_policy.max_below_root or o_size > p_policy.max_below_bytes)
  then
    select * into v_over from lull.too_large(p_policy, o_roots, v_sizes, v_count, v_limit);
    v_stay := v_stay || v_over.o_roots; v_reasons := v_reasons || v_over.o_reasons;
  end if;
  if v_stay = '{}' and v_in_use = '{}' then
    return;
  end if;
  select coalesce(jsonb_agg(jsonb_build_object('key', p_keys[s.root], 'reason', s.reason) order by s.root), '[]')
  into o_kept
  from (select root, min(reason) as reason from unnest(v_stay, v_reasons) u (root, reason)
    where root <> all (v_in_use) group by root) s;
  select coalesce(array_agg(u.tab order by u.i), '{}'), coalesce(array_agg(u.ctid order by u.i), '{}'),
    coalesce(array_agg(u.root order by u.i), '{}'), count(*) filter (where u.i <= v_count)
  into o_tabs, o_ctids, o_roots, o_left
  from unnest(o_tabs, o_ctids, o_roots) with ordinality u (tab, ctid, root, i)
  where u.root <> all (v_stay || v_in_use);
end
$$;

-- Lock and judge level by level. Returns the places of roots (first) and of all below them with their sizes, and the
-- roots that rows below keep, with the newest clock of each. Ends early at p_limit rows below.
create or replace function lull.lock_levels(
  p_line lull.cleanup_run_policies, p_made lull.compiled_policies, p_tabs oid[], p_ctids tid[], p_sizes bigint[],
  p_limit bigint, out o_tabs oid[], out o_ctids tid[], out o_roots integer[], out o_sizes bigint[],
  out o_in_use integer[], out o_seen timestamptz[])
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_material = off
as $$
declare
  c_few constant integer := 100;
  v_count constant integer := cardinality(p_ctids);
  f_tabs oid[] := p_tabs;
  f_ctids tid[] := p_ctids;
  f_roots integer[] := array(select generate_series(1, v_count));
  n record;
  v_level integer;
  v_next record;
begin
  o_tabs := p_tabs; o_ctids := p_ctids; o_roots := f_roots; o_sizes := p_sizes; o_in_use := '{}'; o_seen := '{}';
  while cardinality(f_ctids) > 0 loop
    select '{}'::oid[] as tabs, '{}'::tid[] as ctids, '{}'::integer[] as roots, '{}'::bigint[] as sizes into n;
    for v_level in
      select distinct u.number from unnest(p_made.level_tables, p_made.level_numbers) u (tab, number)
      where u.tab = any (f_tabs) order by 1
    loop
      if cardinality(f_ctids) <= c_few then
        execute format('execute %s_level%s (%L, %L, %L, %L, %L)', p_made.prepared_as, v_level, f_tabs, f_ctids, f_roots,
          p_line.cutoff, p_limit) into v_next;
      else
        execute p_made.level_statements[v_level] into v_next using f_tabs, f_ctids, f_roots, p_line.cutoff, p_limit;
      end if;
      n.tabs := n.tabs || v_next.tabs; n.ctids := n.ctids || v_next.ctids;
      n.roots := n.roots || v_next.roots; n.sizes := n.sizes || v_next.sizes;
      o_in_use := o_in_use || v_next.in_use; o_seen := o_seen || v_next.seen;
    end loop;
    if p_made.is_shared and cardinality(n.ctids) > 0 then
      select * into n from lull.new_places(o_tabs, o_ctids, n.tabs, n.ctids, n.roots, n.sizes);
    end if;
    f_tabs := n.tabs; f_ctids := n.ctids; f_roots := n.roots;
    o_tabs := o_tabs || n.tabs; o_ctids := o_ctids || n.ctids; o_roots := o_roots || n.roots;
    o_sizes := o_sizes || n.sizes;
    exit when cardinality(o_ctids) - v_count >= p_limit;
  end loop;
end
$$;

-- Of places that were found, those that were not there before, each once: several foreign keys may lead to one row.
create or replace function lull.new_places(
  p_tabs oid[], p_ctids tid[], p_new_tabs oid[], p_new_ctids tid[], p_new_roots integer[], p_new_sizes bigint[],
  out tabs oid[], out ctids tid[], out roots integer[], out sizes bigint[])
language sql
set search_path = pg_catalog, pg_temp
set enable_hashjoin = on
as $$
  select coalesce(array_agg(x.tab), '{}'), coalesce(array_agg(x.ctid), '{}'), coalesce(array_agg(x.root), '{}'),
    coalesce(array_agg(x.size), '{}')
  from (
    select distinct on (n.tab, n.ctid) n.*
    from unnest(p_new_tabs, p_new_ctids, p_new_roots, p_new_sizes) n (tab, ctid, root, size)
    where not exists (
      select 1 from unnest(p_tabs, p_ctids) o (tab, ctid) where o.tab = n.tab and o.ctid = n.ctid)
    order by n.tab, n.ctid, n.root
  ) x;
$$;

-- A session that is kept by rows below gets its own clock moved to the newest of theirs, so that the next run need not
-- look again. A team's row is never written.
create or replace function lull.follow_clocks(
  p_policy lull.policy_definition, p_ctids tid[], p_roots integer[], p_seen timestamptz[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_policy.target = 'lull.sessions' and p_policy.clock = 'last_activity_at' then
    update lull.sessions s
    set last_activity_at = greatest(s.last_activity_at, x.seen)
    from (
      select p_ctids[u.root] as ctid, max(u.seen) as seen from unnest(p_roots, p_seen) u (root, seen) group by u.root
    ) x
    where s.ctid = x.ctid and x.seen > s.last_activity_at;
  end if;
end
$$;

-- The roots that have more below them than one may have. Raises LU002 for a batch that was cut off at its limit, or
-- would make too much text at once, unless it has one root only.
create or replace function lull.too_large(
  p_policy lull.policy_definition, p_roots integer[], p_sizes bigint[], p_count integer, p_limit bigint,
  out o_roots integer[], out o_reasons text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_count > 1 and cardinality(p_roots) - p_count >= p_limit then
    raise exception using errcode = 'LU002', message = 'too many rows hang below the rows of one batch';
  end if;
  select coalesce(array_agg(x.root), '{}'), coalesce(array_agg(x.reason), '{}') into o_roots, o_reasons
  from (
    select u.root, case
      when count(*) - 1 > p_policy.max_below_root then
        format('more than %s rows hang below it (max_below_root)', p_policy.max_below_root)
      else format('about %s MB hang below it; the limit is %s MB (max_below_bytes)',
        ceil(sum(u.size) / 1048576.0), floor(p_policy.max_below_bytes / 1048576.0)) end as reason
    from unnest(p_roots, p_sizes) u (root, size)
    group by u.root
    having count(*) - 1 > p_policy.max_below_root or sum(u.size) > p_policy.max_below_bytes
  ) x;
  if p_count > 1 and (
    select sum(u.size) from unnest(p_roots, p_sizes) u (root, size) where u.root <> all (o_roots)
  ) > p_policy.max_below_bytes then
    raise exception using errcode = 'LU002', message = 'the rows of one batch are too large together';
  end if;
end
$$;

-- A row's key as one text: the value of a single column, a JSON array of several.
create or replace function lull.key_text(p_document jsonb, p_columns text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case when cardinality(p_columns) = 1 then p_document ->> p_columns[1]
    else (select jsonb_agg(p_document -> c order by n)::text from unnest(p_columns) with ordinality u (c, n)) end;
$$;
