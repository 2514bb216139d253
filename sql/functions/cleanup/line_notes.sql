-- Cleanup, notes: what a dry run says beside the numbers of a line. Which rows stay, and because of what.

-- Sentences about a line (a policy as JSON) at this cutoff: statuses that the adoption does not name, rows from
-- before the adoption, tables below that nothing explains. Looks at the oldest rows of the table only, so that it
-- ends soon.
create or replace function lull.line_notes(p_policy jsonb, p_cutoff timestamptz)
returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
as $$
declare
  v_target lull.targets;
  v_notes text[] := '{}';
begin
  select * into v_target from lull.targets where name = p_policy ->> 'target';
  if to_regclass(v_target.name) is null or lull.target_reasons(v_target) <> '{}' then
    return v_notes;  -- the line's error says why it cannot be acted on
  end if;
  if v_target.kind is not null then
    v_notes := array_remove(array[lull.unnamed_status_note(v_target, p_cutoff),
      lull.before_adoption_note(v_target, p_policy, p_cutoff)], null);
  end if;
  if v_target.kind is not null or v_target.name = 'lull.sessions' then
    v_notes := v_notes || array(
      select format('%s below it is not named: its rows keep a session', b.child)
      from (
        select x.child, min(x.depth) as depth from lull.tables_below(to_regclass(v_target.name)) x group by x.child
      ) b
      join pg_catalog.pg_class c on c.oid = b.child
      where b.depth = 1 and c.relnamespace <> 'lull'::regnamespace
        and (coalesce(p_policy -> 'below', '{}') -> b.child::text) is null
      order by b.child::text);
    v_notes := v_notes || array(
      select distinct format('%s refers to %s without on delete cascade: a row there keeps a session',
        f.conrelid::regclass, f.confrelid::regclass)
      from pg_catalog.pg_constraint f
      join pg_catalog.pg_class c on c.oid = f.conrelid
      where f.contype = 'f' and f.confdeltype <> 'c' and f.conparentid = 0
        and c.relnamespace <> 'lull'::regnamespace
        and f.confrelid in (select x.child from lull.tables_below(to_regclass(v_target.name)) x)
        and f.conrelid not in (select x.child from lull.tables_below(to_regclass(v_target.name)) x)
      order by 1);
  end if;
  return v_notes;
end
$$;

-- How many of the oldest rows have a status that the adoption does not name; null when none has.
create or replace function lull.unnamed_status_note(p_target lull.targets, p_cutoff timestamptz)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant integer := 10000;
  v_note text;
begin
  if p_target.status_column is null or p_target.clock_column is null then
    return null;
  end if;
  execute format(
    'select format(''%%s %%s a status that the adoption does not name and stay: %%s'', sum(n),
        case sum(n) when 1 then ''row has'' else ''rows have'' end,
        string_agg(format(''%%s (%%s)'', v, n), '', '' order by v))
     from (
       select coalesce(v, ''null'') as v, count(*) as n
       from (
         select %s as s, %s::text as v from %s t where t.%I < $1 order by t.%I limit %s) x
       where s = ''other'' group by 1) y
     having count(*) > 0',
    lull.status_expression(p_target), lull.column_expression(p_target.status_column), p_target.name,
    p_target.clock_column, p_target.clock_column, c_most)
  into v_note using p_cutoff;
  return v_note;
end
$$;

-- How many rows would be stale, were they not from before the adoption; null when none is, or when such rows count too.
create or replace function lull.before_adoption_note(p_target lull.targets, p_policy jsonb, p_cutoff timestamptz)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  c_most constant integer := 100000;
  v_count bigint;
begin
  if p_target.existing or p_target.clock_column is null then
    return null;
  end if;
  execute format('select count(*) from (select 1 from %s t where %s and t.%I < $1 and t.%I <= $2 limit %s) x',
    p_target.name, lull.mapped_condition(p_policy), p_target.clock_column, p_target.clock_column, c_most)
  into v_count using p_cutoff, p_target.adopted_at;
  if v_count > 0 then
    return format('%s rows stay because their clock is not newer than the adoption (%s); %s', v_count,
      lull.utc(p_target.adopted_at), 'p_existing => true counts them');
  end if;
  return null;
end
$$;

-- The condition of a derived line on the row t, without its target's: the values of its status and the empty columns.
create or replace function lull.mapped_condition(p_policy jsonb)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(' and ', 'true',
    (select string_agg(format('t.%I::text = any (%L::text[])', e.key, array(select jsonb_array_elements_text(e.value))),
      ' and ') from jsonb_each(p_policy -> 'equals') e),
    (select string_agg(format('t.%I is null', n), ' and ') from jsonb_array_elements_text(p_policy -> 'nulls') n));
$$;
