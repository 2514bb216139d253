-- Sessions, a team's own table: tie it to lull.sessions, row by row, so that drafts in it are cleaned with everything
-- below them, come back whole, and nothing historic is ever stale.
--
--   team's row inserted   → its lull.sessions row is opened
--   a row below it written → activity (rows directly below; adopt again after adding such a table)
--   team's row updated    → activity; a status or first message that the app writes itself is taken over
--   team's row deleted    → its lull.sessions row goes too
--   Lull's transition     → status and first message are written back
--   cleanup, restore      → the foreign key carries the team's row and all below it along

-- Tie a table in. Its uuid primary key becomes the session's id; `status` and `first_message_at` are added where
-- missing (existing rows become active with first_message_at = created_at). Whatever the rows say, as sessions they are
-- active and had their first message; games and rooms are put on hold too, because an active one has a time-out. So
-- history is never deletable.
-- Raises with every reason at once when the table cannot be tied in; then nothing was changed. Returns a sentence;
-- called again, it makes the triggers anew and changes nothing else. Locks the table against writes while it runs.
create or replace function lull.adopt_sessions(p_table regclass, p_kind text)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_reasons text[] := lull.session_table_reasons(p_table, p_kind);
  v_key text := (lull.unique_key(p_table, null))[1];
  v_created text;
  v_rows bigint;
begin
  if v_reasons <> '{}' then
    perform lull.refuse(422, 'not-adoptable',
      format('%s cannot be adopted: %s.', p_table, array_to_string(v_reasons, '; ')));
  end if;
  perform lull.make_session_triggers(p_table, v_key, p_kind);
  if exists (select 1 from lull.session_tables where name = p_table::text) then
    return format('%s was adopted before; its triggers are as of this release.', p_table);
  end if;

  v_created := case when exists (select 1 from lull.table_columns(p_table) where name = 'created_at')
    then 'coalesce(t.created_at::timestamptz, now())' else 'now()' end;
  if not exists (select 1 from lull.table_columns(p_table) where name = 'status') then
    execute format('alter table %s add column status text not null default ''active''', p_table);
  end if;
  if not exists (select 1 from lull.table_columns(p_table) where name = 'first_message_at') then
    execute format('alter table %s add column first_message_at timestamptz', p_table);
    execute format('alter table %s disable trigger lull_follow_session', p_table);
    execute format('update %s t set first_message_at = %s where t.first_message_at is null', p_table, v_created);
    execute format('alter table %s enable trigger lull_follow_session', p_table);
  end if;
  execute format(
    'insert into lull.sessions (id, kind, status, created_at, first_message_at, last_activity_at, hold)
     select t.%I, %L, ''active'', %s, coalesce(t.first_message_at, %s), now(), %L from %s t
     on conflict (id) do nothing',
    v_key, p_kind, v_created, v_created, p_kind <> 'chat', p_table);
  get diagnostics v_rows = row_count;
  execute format('alter table %s add constraint lull_session foreign key (%I) references lull.sessions (id)
    on delete cascade', p_table, v_key);
  insert into lull.session_tables (name, kind) values (p_table::text, p_kind);
  return format('%s is adopted as %s sessions; its %s rows are active and will not be stale.', p_table, p_kind, v_rows);
end
$$;

-- Every reason why a table cannot hold sessions, empty when it can.
create or replace function lull.session_table_reasons(p_table regclass, p_kind text)
returns text[]
language sql
set search_path = ''
as $$
  select array(
    select format('there is no kind %s', coalesce(p_kind, 'null'))
    where p_kind is null or p_kind not in ('chat', 'room', 'game')
    union all
    select format('it is adopted as %s already', s.kind)
    from lull.session_tables s where s.name = p_table::text and s.kind <> p_kind
    union all
    select 'its primary key is not one uuid column'
    where not exists (
      select 1 from lull.table_columns(p_table) c
      where array[c.name] = lull.unique_key(p_table, null) and c.type = 'uuid')
    union all
    select format('its column %s is %s; it must be timestamptz', c.name, c.type)
    from lull.table_columns(p_table) c
    where c.name = 'first_message_at' and c.type not like 'timestamp%with time zone'
    union all
    select format('%s does not own it', current_user)
    from pg_catalog.pg_class c
    where c.oid = p_table and not pg_has_role(c.relowner, 'usage')
  ) || lull.restorable_reasons(p_table);
$$;

-- Make (or make anew) the triggers of a session table, and the one that writes back. Their functions carry the owner's
-- rights, because the app's roles have none on Lull's tables.
create or replace function lull.make_session_triggers(p_table regclass, p_key text, p_kind text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_child record;
begin
  execute format('create or replace trigger lull_open_session before insert on %s
    for each row execute function lull.open_session(%L, %L)', p_table, p_key, p_kind);
  execute format('create or replace trigger lull_follow_session after update on %s
    for each row execute function lull.follow_session(%L)', p_table, p_key);
  execute format('create or replace trigger lull_drop_session after delete on %s
    for each row execute function lull.drop_session(%L)', p_table, p_key);
  for v_child in
    select e.child, e.child_columns from lull.cascade_edges(p_table) e
    where e.parent = p_table and e.parent_columns = array[p_key] and e.child <> p_table
  loop
    execute format('create or replace trigger %I before insert or update on %s
      for each row execute function lull.touch_parent_session(%L)',
      'lull_touch_session_by_' || v_child.child_columns[1], v_child.child, v_child.child_columns[1]);
  end loop;
  create or replace trigger write_back
    after update on lull.sessions
    for each row
    when (old.status is distinct from new.status or old.first_message_at is distinct from new.first_message_at)
    execute function lull.write_back();
end
$$;

-- Before a row directly below a team's session is inserted or updated (a message, an attachment): that is activity of the
-- session. Locks the session first, as every writer does.
create or replace function lull.touch_parent_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update lull.sessions
  set last_activity_at = greatest(last_activity_at, now())
  where id = (to_jsonb(new) ->> tg_argv[0])::uuid and last_activity_at < now();
  return new;
end
$$;

-- Before a team's row is inserted: open its session, a draft only when the row says so and has no message. A status
-- that Lull does not know means that the session is in use.
create or replace function lull.open_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_row jsonb := to_jsonb(new);
  v_draft boolean := v_row ->> 'status' is not distinct from 'draft' and v_row ->> 'first_message_at' is null;
  v_status text := case when v_draft then 'draft' else 'active' end;
  v_session lull.sessions;
begin
  insert into lull.sessions (id, kind, status, first_message_at)
  values ((v_row ->> tg_argv[0])::uuid, tg_argv[1], v_status,
    case when not v_draft then coalesce((v_row ->> 'first_message_at')::timestamptz, now()) end)
  on conflict (id) do nothing
  returning * into v_session;
  if found then
    perform lull.append_event(v_session.id, v_session.kind, 'created', jsonb_build_object('status', v_status));
  end if;
  return new;
end
$$;

-- After a team's row was updated: that is activity, and a first message or an end that the app wrote itself holds for
-- the session too. What Lull wrote back changes nothing here.
create or replace function lull.follow_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_new jsonb := to_jsonb(new);
  v_old jsonb := to_jsonb(old);
  v_said text := case when v_new -> 'status' is distinct from v_old -> 'status' then v_new ->> 'status' end;
  v_session lull.sessions := lull.lock_session((v_new ->> tg_argv[0])::uuid);
  v_status text := v_session.status;
begin
  if v_session.status = 'draft' and (v_new ->> 'first_message_at' is not null or v_said not in ('draft', 'ended')) then
    v_status := case when v_said in ('paused', 'ended') then v_said else 'active' end;
  elsif v_said in ('active', 'paused', 'ended') and v_session.status <> 'ended' then
    v_status := v_said;
  end if;
  if v_status <> v_session.status or v_session.last_activity_at < now() then
    update lull.sessions
    set status = v_status,
      first_message_at = coalesce(first_message_at, (v_new ->> 'first_message_at')::timestamptz,
        case when status = 'draft' and v_status in ('active', 'paused') then now() end),
      paused_at = case v_status when 'paused' then coalesce(paused_at, now()) when 'ended' then paused_at end,
      ended_at = case v_status when 'ended' then coalesce(ended_at, now()) end,
      end_reason = case v_status when 'ended' then coalesce(end_reason, 'ended') end,
      version = version + (v_status <> status)::integer,
      last_activity_at = greatest(last_activity_at, now())
    where id = v_session.id;
    if v_status <> v_session.status then
      perform lull.append_event(v_session.id, v_session.kind, case
        when v_status <> 'active' then v_status
        when v_session.status = 'draft' then 'activated'
        else 'resumed' end, '{"by": "table"}');
    end if;
  end if;
  return null;
end
$$;

-- After a team's row was deleted by the app: its session goes too, and the bytes of its files. When the cleanup
-- deleted it there is no session left to drop.
create or replace function lull.drop_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_session lull.sessions := lull.lock_session((to_jsonb(old) ->> tg_argv[0])::uuid);
begin
  if v_session.id is not null then
    delete from lull.sessions where id = v_session.id;
    perform lull.append_event(v_session.id, v_session.kind, 'deleted', '{"by": "table"}');
  end if;
  return null;
end
$$;

-- After a session changed: write status and first message into the team's row. A table that refuses the value keeps
-- its own; the session's change stands.
create or replace function lull.write_back()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_table text;
  v_key text;
  v_type text;
begin
  for v_table in select name from lull.session_tables where kind = new.kind and to_regclass(name) is not null loop
    v_key := (lull.unique_key(v_table::regclass, null))[1];
    select type into v_type from lull.table_columns(v_table::regclass) where name = 'status';
    begin
      execute format('update %s set status = $1::text::%s, first_message_at = $2
        where %I = $3 and (status::text, first_message_at) is distinct from ($1, $2)', v_table, v_type, v_key)
      using new.status, new.first_message_at, new.id;
    exception when check_violation or invalid_text_representation then
      raise warning '% keeps its own status: %', v_table, sqlerrm;
    end;
  end loop;
  return null;
end
$$;
