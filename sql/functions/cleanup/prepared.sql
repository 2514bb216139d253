-- Cleanup, prepared statements: planning is most of what a small batch costs, so its statements are prepared, once a
-- session, under names that are made from their text. Another text has another name; when the catalog changes, the
-- database plans anew. A batch that looks at more than 100 rows is planned for its size instead.

-- Prepare a policy's statements in this session, those that are not yet: _first and _next select rows, _level<n> lock
-- what is below, _page archives. Preparing survives a rollback. When the session has more than 500 of them, those of
-- other policies and runs are dropped first.
create or replace function lull.prepare_statements(p_made lull.compiled_policies)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant integer := 500;
  v_statement record;
  v_name text;
begin
  if (select count(*) from pg_prepared_statement() s where s.name like 'lull\_cleanup\_%') > c_most then
    for v_name in
      select s.name from pg_prepared_statement() s where s.name like 'lull\_cleanup\_%'
    loop
      execute format('deallocate %I', v_name);
    end loop;
  end if;
  for v_statement in
    select x.* from (
      select p_made.prepared_as || '_first' as name, 'timestamptz, integer' as types, p_made.first_statement as text
      union all
      select p_made.prepared_as || '_level' || n, 'oid[], tid[], integer[], timestamptz, bigint', l
      from unnest(p_made.level_statements) with ordinality u (l, n)
      union all
      select p_made.prepared_as || '_page', 'oid[], tid[], integer[]', p_made.page_statement
      union all
      select p_made.prepared_as || '_next', 'timestamptz, integer, timestamptz, text[]', p_made.next_statement
    ) x
    where x.text is not null and not exists (select 1 from pg_prepared_statement() s where s.name = x.name)
  loop
    execute format('prepare %I (%s) as %s', v_statement.name, v_statement.types, v_statement.text);
  end loop;
end
$$;

-- Whether this session has all of them.
create or replace function lull.are_prepared(p_name text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select 1 from pg_prepared_statement() s where s.name = p_name || '_next');
end
$$;
