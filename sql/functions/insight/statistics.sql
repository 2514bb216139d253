-- Insight, the monitoring list: numbers of the last days, from the roll-ups and the events that none of them has.

-- The numbers of the last p_days days, today included, in the zone of the roll-ups. A registered upload is pending for
-- 150 minutes: Storage's signed URL is valid for 120 minutes, and an upload in progress may take longer. Returns
-- {"at", "days", "time_zone", "lag_seconds", "drafts", "uploads", "kinds", "items", "feedback", "cleanup" or null,
-- "events", "tables", "database_bytes"}.
create or replace function public.lull_stats(p_days integer default 7)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_zone constant text := coalesce((select time_zone from lull.event_readers where name = 'rollup'), 'UTC');
  v_today constant date := lull.statistics_today();
  v_first constant date := v_today - (p_days - 1);
  v_cells jsonb := (select coalesce(jsonb_agg(to_jsonb(c)), '[]') from lull.daily_cells(v_first) c);
begin
  return jsonb_build_object('at', now(), 'days', p_days, 'time_zone', v_zone, 'lag_seconds', lull.rollup_lag(),
    'drafts', (
      select jsonb_build_object('created_today', coalesce(sum(n) filter (where day = v_today), 0),
        'created_per_day', round(coalesce(sum(n) filter (where day < v_today), 0) / nullif(p_days - 1, 0), 2))
      from lull.read_cells(v_cells) where measure = 'drafts' and kind = 'chat'),
    'uploads', lull.upload_numbers(v_cells, v_first, v_zone),
    'kinds', lull.kind_numbers(v_cells),
    'items', (
      select coalesce(jsonb_agg(jsonb_build_object('item', i.label, 'uses', i.n) order by i.n desc, i.label), '[]')
      from (select label, sum(n) as n from lull.read_cells(v_cells) where measure = 'item'
        group by label order by 2 desc, 1 limit 10) i),
    'feedback', (
      select coalesce(jsonb_agg(to_jsonb(f) order by f.kind, f.mode), '[]')
      from (
        select kind, mode, count(*) as answers, round(avg(score), 2) as average_score
        from lull.session_feedback where at >= v_first::timestamp at time zone v_zone group by kind, mode) f),
    'cleanup', (
      select jsonb_build_object('status', status, 'finished_at', finished_at)
      from lull.cleanup_runs
      where finished_at is not null
      order by started_at desc
      limit 1),
    'events', (
      select jsonb_build_object('pending', count(*), 'oldest_pending_at', min(queued_at), 'dead', (
        select count(*) from lull.deliveries where state = 'dead' and settled_at > now() - interval '30 days'))
      from lull.deliveries
      where state = 'queued'),
    'tables', lull.table_growth(v_first),
    'database_bytes', (
      select sum(pg_total_relation_size(c.oid)) from pg_catalog.pg_class c
      where c.relnamespace = 'lull'::regnamespace and c.relkind = 'r'));
end
$$;

-- Cells as rows.
create or replace function lull.read_cells(p_cells jsonb)
returns table (day date, kind text, measure text, label text, bucket smallint, n numeric, total double precision)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select * from jsonb_to_recordset(p_cells)
    as c (day date, kind text, measure text, label text, bucket smallint, n numeric, total double precision);
$$;

-- The files registered since the first day, by what became of them.
create or replace function lull.upload_numbers(p_cells jsonb, p_first date, p_zone text)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
  with pending as (
    select count(*) as n from lull.session_events e
    where e.at >= greatest(now() - interval '150 minutes', p_first::timestamp at time zone p_zone)
      and e.event = 'file-registered' and not exists (
        select 1 from lull.session_events o
        where o.session_id = e.session_id and o.id > e.id and o.event = 'file-uploaded'
          and o.data ->> 'file' = e.data ->> 'file')
  ), upload as (
    select coalesce(sum(n) filter (where measure = 'files'), 0) as registered,
      coalesce(sum(n) filter (where measure = 'uploaded'), 0) as uploaded
    from lull.read_cells(p_cells)
  )
  select jsonb_build_object('registered', u.registered, 'uploaded', u.uploaded, 'pending', p.n,
    'expired', greatest(u.registered - u.uploaded - p.n, 0), 'success_rate_percent',
    round(100.0 * u.uploaded / nullif(u.uploaded + greatest(u.registered - u.uploaded - p.n, 0), 0), 2))
  from upload u, pending p;
$$;

-- By kind: what began and ended, the share that no one ended, conversion of drafts, and three distributions.
create or replace function lull.kind_numbers(p_cells jsonb)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  with cell as materialized (
    select * from lull.read_cells(p_cells)
  ), kind as (
    select c.kind,
      coalesce(sum(n) filter (where measure = 'created'), 0) as created,
      coalesce(sum(n) filter (where measure = 'drafts'), 0) as drafts,
      coalesce(sum(n) filter (where measure = 'activated' and bucket = 1), 0) as activated_in_24_hours,
      coalesce(sum(n) filter (where measure = 'activated' and bucket <= 2), 0) as activated_in_7_days,
      coalesce(sum(n) filter (where measure = 'activated'), 0) as activated,
      coalesce(sum(n) filter (where measure = 'abandoned'), 0) as abandoned,
      coalesce(sum(n) filter (where measure = 'ended'), 0) as ended,
      coalesce(sum(n) filter (where measure = 'cleaned'), 0) as cleaned
    from cell c group by c.kind
  )
  select coalesce(jsonb_agg(to_jsonb(k) || jsonb_build_object(
      'conversion_rate_percent', round(100.0 * k.activated / nullif(k.drafts, 0), 2),
      'abandoned_share_percent', round(100.0 * k.cleaned / nullif(k.ended + k.cleaned, 0), 2),
      'duration_seconds', (select lull.distribution(array_agg(c.bucket), array_agg(c.n), sum(c.total))
        from (select bucket, sum(n) as n, sum(total) as total from cell
          where kind = k.kind and measure = 'duration' group by bucket) c),
      'participants', (select lull.distribution(array_agg(c.bucket), array_agg(c.n), sum(c.total))
        from (select bucket, sum(n) as n, sum(total) as total from cell
          where kind = k.kind and measure = 'participants' group by bucket) c),
      'commands', (select lull.distribution(array_agg(c.bucket), array_agg(c.n), sum(c.total))
        from (select bucket, sum(n) as n, sum(total) as total from cell
          where kind = k.kind and measure = 'commands' group by bucket) c)) order by k.kind), '[]')
  from kind k;
$$;

-- The count, average and median of a histogram; null for an empty one. The median is the middle of its bucket (within
-- 9 %), in whole numbers up to 4, where a bucket has no other.
create or replace function lull.distribution(p_buckets smallint[], p_counts numeric[], p_total double precision)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  with cell as (
    select b.bucket, b.n, sum(b.n) over (order by b.bucket) as up_to, sum(b.n) over () as whole
    from unnest(p_buckets, p_counts) b (bucket, n)
  )
  select jsonb_build_object('n', c.whole, 'average', round((p_total / c.whole::double precision)::numeric, 2),
    'median', case when c.bucket < 9 then floor(2 ^ ((c.bucket + 1) / 4.0)) else round(2 ^ ((c.bucket + 0.5) / 4.0), 1)
      end)
  from cell c where c.up_to >= c.whole / 2 order by c.bucket limit 1;
$$;

-- The tables by size, with their growth since the first day that is known of the span.
create or replace function lull.table_growth(p_first date)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('table', n.name, 'bytes', n.bytes, 'rows', n.rows, 'dead_rows', n.dead,
    'since', o.day, 'grown_bytes', n.bytes - o.bytes) order by n.bytes desc, n.name), '[]')
  from (
    select distinct on (name) * from lull.table_sizes where day >= p_first order by name, day desc) n
  cross join lateral (
    select s.day, s.bytes from lull.table_sizes s where s.name = n.name and s.day >= p_first order by s.day limit 1) o;
$$;
