-- Feedback: a score from 1 to 5 on a session, with a few words. It outlives the session, so that reports can be made
-- from it; the policy old-feedback takes it.
--
-- An author is a hash: of the user's id, of the participant's, of the session token's hash, or of the name by which the
-- service gives it for someone. The same author's next feedback on a session replaces the one before.

-- The place of a session that a caller may give feedback on: its owner, the service, and users who take or took part
-- in it. Locks its row `for key share`: the session can not go meanwhile. Raises 404 or 410. o_target: the adopted
-- table that holds the row; null for lull.sessions.
create or replace function lull.lock_session_for_feedback(
  p_session uuid, p_caller jsonb, out o_target text, out o_kind text, out o_session lull.sessions)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner jsonb := case when lull.took_part(p_session, p_caller) then '{"service": true}' else p_caller end;
  v_place text := lull.own_place(p_session, v_owner, p_caller ->> 'table');
  v_target lull.targets;
begin
  if v_place <> 'lull.sessions' then
    select * into v_target from lull.targets where name = v_place;
    if lull.read_own_row(v_target, p_session, 'for key share of t') is not null then
      o_target := v_place;
      o_kind := v_target.kind;
    end if;
  end if;
  select * into o_session from lull.sessions where id = p_session for key share;
  if o_target is null then
    if v_place is distinct from 'lull.sessions' or o_session.id is null
      or not lull.is_owner(o_session.owner_id, o_session.owner_token_hash, v_owner)
    then
      perform lull.no_such_session(p_session, p_caller);
    end if;
    o_kind := o_session.kind;
  elsif o_session.companion_of is distinct from o_target then
    o_session := null;
  end if;
end
$$;

-- Whether a caller takes or took part in a session: as a user, or by the proof of a participant's row (`participant`).
create or replace function lull.took_part(p_session uuid, p_caller jsonb)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select 1 from lull.session_participants p
    where p.session_id = p_session
      and (p.user_id = (p_caller ->> 'user_id')::uuid or p.id = (p_caller ->> 'participant')::uuid));
$$;

-- Give feedback on a session, ended or not, or replace the author's own; the same again writes nothing. p_author: the
-- hash of a name, in hexadecimal, where the service gives it for someone. p_most: how many an author may give within an
-- hour (429; null: no limit). Raises 404, and 410 for an archived session. Locks the session's row `for key share`,
-- then the author's counter. Appends `feedback.given`. Returns {"feedback", "replaced"}.
create or replace function public.lull_give_feedback(
  p_session uuid, p_caller jsonb, p_score integer, p_about text default null, p_comment text default null,
  p_author text default null, p_most integer default null)
returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set jit = off
set statement_timeout = '8s'
set timezone = 'UTC'
as $$
declare
  v_server constant name := lull.require_server();
  v_at record;
  v_user uuid := lull.feedback_user(p_session, p_caller);
  v_author text := lull.feedback_author(v_user, p_caller, p_author);
  v_hash bytea;
  v_old lull.session_feedback;
  v_new lull.session_feedback;
begin
  select * into v_at from lull.lock_session_for_feedback(p_session, p_caller);
  v_hash := sha256(convert_to(concat_ws(':', v_at.o_target, p_session, v_author), 'UTF8'));
  perform lull.lock_counters(array(select 'feedback:' || v_author where p_most is not null));
  select * into v_old from lull.session_feedback where session_id = p_session and author_hash = v_hash for update;
  if (v_old.score, coalesce(v_old.about, ''), coalesce(v_old.comment, ''))
    = (p_score, coalesce(p_about, ''), coalesce(p_comment, ''))
  then
    return jsonb_build_object('feedback', lull.feedback_json(v_old, false), 'replaced', true);
  end if;
  perform lull.count_hourly('feedback:' || v_author, 'feedback-writes-per-hour', 1, p_most);
  insert into lull.session_feedback as f (target, session_id, kind, mode, guild_id, author_hash, user_id, score, about,
    comment)
  values (v_at.o_target, p_session, v_at.o_kind, (v_at.o_session).mode, to_jsonb(v_at.o_session) ->> 'guild_id', v_hash,
    v_user, p_score, p_about, p_comment)
  on conflict (session_id, author_hash) do update
    set score = excluded.score, about = excluded.about, comment = excluded.comment, at = now(),
      mode = excluded.mode, guild_id = excluded.guild_id
  returning * into v_new;
  perform lull.append_row_event(v_at.o_target, p_session, v_at.o_kind, 'feedback.given',
    jsonb_build_object('score', p_score));
  return jsonb_build_object('feedback', lull.feedback_json(v_new, false), 'replaced', v_old.id is not null);
end
$$;

-- The user who gives feedback: the caller, or the user of the participant's row that it proves; null without one.
create or replace function lull.feedback_user(p_session uuid, p_caller jsonb)
returns uuid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when not coalesce((p_caller ->> 'service')::boolean, false) then coalesce(
    (p_caller ->> 'user_id')::uuid,
    (select p.user_id from lull.session_participants p
      where p.session_id = p_session and p.id = (p_caller ->> 'participant')::uuid)) end;
$$;

-- What tells one author of feedback on a session from another: the user, the participant, the holder of a session's
-- token, or for the service the name (as a hash) for which it gives feedback, if any.
create or replace function lull.feedback_author(p_user uuid, p_caller jsonb, p_author text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when coalesce((p_caller ->> 'service')::boolean, false) then coalesce('name:' || p_author, 'service')
    when p_user is not null then 'user:' || p_user
    when p_caller ->> 'participant' is not null then 'participant:' || (p_caller ->> 'participant')
    else 'token:' || coalesce(p_caller ->> 'token_hash', '') end;
$$;

-- Feedback as its readers see it. The author's user id only for the service.
create or replace function lull.feedback_json(p_feedback lull.session_feedback, p_with_author boolean)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('id', p_feedback.id, 'score', p_feedback.score, 'about', p_feedback.about,
      'comment', p_feedback.comment, 'at', p_feedback.at)
    || case when p_with_author then jsonb_build_object('user_id', p_feedback.user_id) else '{}' end;
$$;

-- A page of the feedback on a session, newest first, after p_after ({"created_at", "id"} of the page before). Its owner
-- reads it without authors; the service with them, also when the session is gone. Raises 404 or 410. Returns
-- {"feedback", "count", "average" (of all; null without any), "next": {"created_at", "id"} or null}.
create or replace function public.lull_list_feedback(
  p_session uuid, p_caller jsonb, p_limit integer default 100, p_after jsonb default null)
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
  v_service boolean := coalesce((p_caller ->> 'service')::boolean, false);
  v_place text := lull.own_place(p_session, p_caller, p_caller ->> 'table');
  v_target text := nullif(v_place, 'lull.sessions');
  v_all record;
  v_page jsonb;
begin
  select count(*) as n, round(avg(score), 2) as average into v_all
  from lull.session_feedback f
  where f.session_id = p_session and (f.target is not distinct from v_target or v_place is null);
  if v_place is null and not (v_service and v_all.n > 0) then
    perform lull.no_such_session(p_session, p_caller);
  end if;
  select coalesce(jsonb_agg(lull.feedback_json(f, v_service) order by f.at desc, f.id desc), '[]') into v_page
  from (
    select * from lull.session_feedback x
    where x.session_id = p_session and (x.target is not distinct from v_target or v_place is null)
      and (p_after is null or (x.at, x.id) < ((p_after ->> 'created_at')::timestamptz, (p_after ->> 'id')::uuid))
    order by x.at desc, x.id desc
    limit p_limit + 1
  ) f;
  return jsonb_build_object('feedback', case when jsonb_array_length(v_page) > p_limit then v_page - p_limit
      else v_page end, 'count', v_all.n, 'average', v_all.average,
    'next', case when jsonb_array_length(v_page) > p_limit then
      jsonb_build_object('created_at', v_page -> (p_limit - 1) -> 'at', 'id', v_page -> (p_limit - 1) -> 'id') end);
end
$$;
