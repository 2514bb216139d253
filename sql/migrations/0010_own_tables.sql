-- A team's own tables are read and not touched: what their columns mean is stored here, and nothing is added to them.
--
--   targets ──(kind, columns, below)──▶ a team's table: its rows are judged as they are
--   sessions.companion_of             what a team's row has no column for: files, participants, token, version
--   holds                             rows that no policy takes, by target and key
--   erasures                          deleted users whose data the next run erases

alter table lull.targets
  add column kind text,
  add column owner_column text,
  add column status_column text,
  add column statuses jsonb not null default '{}',
  add column first_message_column text,
  add column clock_column text,
  add column below jsonb not null default '{}',
  add column existing boolean not null default true,
  add column participants jsonb,
  add column trust text[] not null default '{}',
  add column search_path text,
  add column relation oid,
  add column version xid8 not null default pg_current_xact_id(),
  add constraint targets_kind_known check (kind in ('chat', 'room', 'game')),
  add constraint targets_statuses_is_object check (jsonb_typeof(statuses) = 'object'),
  add constraint targets_below_is_object check (jsonb_typeof(below) = 'object');
comment on column lull.targets.kind is 'Rows are sessions of this kind; null: any table.';
comment on column lull.targets.existing is 'False: a row whose clock is not newer than adopted_at is kept.';
comment on column lull.targets.search_path is 'The search path under which triggers and defaults of the table run.';
comment on column lull.targets.relation is 'The oid at adoption: by it a renamed table is recognised and named.';
comment on column lull.targets.version is 'The transaction that changed the entry last: an open run compiles anew.';

alter table lull.sessions
  add column companion_of text,
  add column row_seen_at timestamptz,
  add column row_missing_since timestamptz,
  add constraint sessions_row_of_a_companion check (
    companion_of is not null or row_seen_at is null and row_missing_since is null);
create index sessions_companions on lull.sessions (companion_of, id) where companion_of is not null;
create index sessions_lost_companions on lull.sessions (row_missing_since, id)
  where row_missing_since is not null and not hold;

-- The table that a session of this id is in; null: lull.sessions. The same id in two tables is two sessions.
alter table lull.session_events add column target text;

create table lull.holds (
  target text not null,
  key text not null,
  reason text not null,
  until timestamptz,
  created_at timestamptz not null default now(),
  primary key (target, key)
);

create table lull.erasures (
  user_id uuid primary key,
  queued_at timestamptz not null default now(),
  tried_at timestamptz,
  last_error text
);

-- Tables that an earlier release tied in by triggers: the triggers, the foreign key and the mirror rows go. A mirror
-- row with files, participants, an owner or a token stays as a companion; a hold becomes a hold of the team's row.
do $$
declare
  c_clocks constant text[] := '{last_activity_at,last_active_at,last_message_at,updated_at,modified_at}';
  v_old record;
  v_thing record;
  v_key text;
  v_clock text;
  v_below jsonb;
  v_referred boolean;
  v_holds bigint;
  v_companions bigint;
  v_mirrors bigint;
begin
  for v_thing in
    select t.tgname, t.tgrelid::regclass as tab
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal and p.pronamespace = 'lull'::regnamespace and p.proname in (
      'open_session', 'follow_session', 'drop_session', 'touch_parent_session', 'write_back')
  loop
    execute format('drop trigger %I on %s', v_thing.tgname, v_thing.tab);
  end loop;
  for v_thing in
    select f.conrelid::regclass as tab from pg_catalog.pg_constraint f
    where f.conname = 'lull_session' and f.contype = 'f' and f.confrelid = 'lull.sessions'::regclass
  loop
    execute format('alter table %s drop constraint lull_session', v_thing.tab);
  end loop;
  v_referred := exists (
    select 1 from pg_catalog.pg_constraint f
    join pg_catalog.pg_class c on c.oid = f.conrelid
    where f.contype = 'f' and f.confrelid = 'lull.sessions'::regclass
      and c.relnamespace <> 'lull'::regnamespace);

  for v_old in select * from lull.session_tables order by name loop
    if to_regclass(v_old.name) is null then
      raise notice '% was adopted as % sessions and does not exist any more: its entry was removed.',
        v_old.name, v_old.kind;
      continue;
    end if;
    select a.attname into v_key
    from pg_catalog.pg_index i
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = to_regclass(v_old.name) and i.indisprimary;
    select case count(*) when 1 then min(a.attname) end into v_clock
    from pg_catalog.pg_attribute a
    where a.attrelid = to_regclass(v_old.name) and a.attname = any (c_clocks) and not a.attisdropped
      and a.atttypid = 'timestamptz'::regtype;
    with recursive below as (
      select f.conrelid from pg_catalog.pg_constraint f
      where f.contype = 'f' and f.confdeltype = 'c' and f.conparentid = 0 and f.confrelid = to_regclass(v_old.name)
      union
      select f.conrelid from below b
      join pg_catalog.pg_constraint f on f.confrelid = b.conrelid
      where f.contype = 'f' and f.confdeltype = 'c' and f.conparentid = 0
    )
    select coalesce(jsonb_object_agg(conrelid::regclass::text, 'keeps'), '{}') into v_below
    from below where conrelid <> to_regclass(v_old.name);

    insert into lull.targets (name, key_columns, builtin, adopted_at, kind, status_column, statuses,
      first_message_column, clock_column, below, existing, search_path, relation)
    values (v_old.name, array[v_key], false, v_old.adopted_at, v_old.kind, 'status',
      '{"draft": ["draft"], "active": ["active"], "paused": ["paused"], "ended": ["ended"]}', 'first_message_at',
      v_clock, v_below, false, '"$user", public', to_regclass(v_old.name))
    on conflict (name) do update set
      key_columns = excluded.key_columns, adopted_at = excluded.adopted_at, kind = excluded.kind,
      status_column = excluded.status_column, statuses = excluded.statuses,
      first_message_column = excluded.first_message_column, clock_column = excluded.clock_column,
      below = excluded.below, existing = excluded.existing, search_path = excluded.search_path,
      relation = excluded.relation, version = pg_current_xact_id();

    execute format(
      'insert into lull.holds (target, key, reason)
       select %1$L, s.id::text, ''held before the adoption without triggers''
       from lull.sessions s where s.hold and exists (select 1 from %1$s t where t.%2$I = s.id)
       on conflict do nothing', v_old.name, v_key);
    get diagnostics v_holds = row_count;
    execute format(
      'update lull.sessions s
       set companion_of = %1$L, row_seen_at = now(), hold = false, version = s.version
       where exists (select 1 from %1$s t where t.%2$I = s.id) and (%3$L
         or s.owner_id is not null or s.owner_token_hash is not null or s.external_key is not null
         or s.title is not null or s.mode is not null or s.metadata <> ''{}'' or s.state <> ''{}''
         or exists (select 1 from lull.session_files f where f.session_id = s.id)
         or exists (select 1 from lull.session_participants p where p.session_id = s.id))',
      v_old.name, v_key, v_referred);
    get diagnostics v_companions = row_count;
    execute format(
      'delete from lull.sessions s using %s t where t.%I = s.id and s.companion_of is null', v_old.name, v_key);
    get diagnostics v_mirrors = row_count;
    execute format(
      'update lull.session_events e set target = %1$L
       where e.target is null and exists (select 1 from %1$s t where t.%2$I = e.session_id)', v_old.name, v_key);

    -- What was archived as a mirror row with the team's row below it is the team's row with what hung below it.
    update lull.archive a
    set target = v_old.name, "row" = d.doc,
      children = case when (a.row ->> 'owner_id') is not null or (a.row ->> 'owner_token_hash') is not null
          or a.children @> '[{"table": "lull.session_files"}]'
          or a.children @> '[{"table": "lull.session_participants"}]'
        then jsonb_build_array(jsonb_build_object('table', 'lull.sessions', 'rows', jsonb_build_array(
          a.row || jsonb_build_object('companion_of', v_old.name, 'row_seen_at', now()::text, 'hold', 'false'))))
        else '[]' end || (
        select coalesce(jsonb_agg(e order by n), '[]')
        from jsonb_array_elements(a.children) with ordinality x (e, n) where e ->> 'table' <> v_old.name)
    from (
      select x.id, (
        select r from jsonb_array_elements(x.children) e, jsonb_array_elements(e -> 'rows') r
        where e ->> 'table' = v_old.name and r ->> v_key = x.key limit 1) as doc
      from lull.archive x
      where x.target = 'lull.sessions'
    ) d
    where a.id = d.id and d.doc is not null;

    raise notice '% is judged by its own rows now: % mirror rows were removed, % kept as companions, % holds kept. %',
      v_old.name, v_mirrors, v_companions, v_holds,
      'Its triggers and the foreign key lull_session were removed; its columns stay.';
    raise notice 'Its mapping is what was implied: select lull.adopt_sessions(%, %, p_clock => %, p_below => %). %',
      quote_literal(v_old.name), quote_literal(v_old.kind), coalesce(quote_literal(v_clock), 'null'),
      quote_literal(v_below), 'Call lull.propose_adoption() to see what it means, and adopt again to change it.';
  end loop;
  delete from lull.session_tables where true;
end
$$;
comment on table lull.session_tables is 'Of releases that tied tables in by triggers; empty. See lull.targets.';
