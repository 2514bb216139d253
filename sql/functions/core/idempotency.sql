-- Idempotency keys: a creation that is retried with its key repeats the first answer, for 24 hours.

-- Begin a creation under a key, or answer what its first call answered. The key's row is inserted first, so that a
-- second request with it waits for the first one's outcome. p_idempotency: {"scope", "key", "request_hash"} or null.
-- Locks the key. Returns null when the creation is to be done now; raises 422 for a key of another request.
create or replace function lull.begin_once(p_idempotency jsonb, p_session uuid)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key lull.idempotency_keys;
begin
  if p_idempotency is null then
    return null;
  end if;
  insert into lull.idempotency_keys as k (scope, key, request_hash, session_id)
  values (p_idempotency ->> 'scope', p_idempotency ->> 'key', decode(p_idempotency ->> 'request_hash', 'hex'),
    p_session)
  on conflict (scope, key) do update
    set request_hash = excluded.request_hash, session_id = excluded.session_id, answer = null, created_at = now()
    where k.created_at <= now() - interval '24 hours';
  if found then
    return null;
  end if;
  select * into v_key from lull.idempotency_keys
  where scope = p_idempotency ->> 'scope' and key = p_idempotency ->> 'key';
  if v_key.request_hash <> decode(p_idempotency ->> 'request_hash', 'hex') then
    perform lull.refuse(422, 'idempotency-key-reused',
      'This Idempotency-Key was used for another request. Nothing was created; use a new key.');
  end if;
  return v_key.answer;
end
$$;

-- Keep the answer of a creation under its key, for retries. Nothing without a key.
create or replace function lull.end_once(p_idempotency jsonb, p_answer jsonb)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
  update lull.idempotency_keys set answer = p_answer
  where scope = p_idempotency ->> 'scope' and key = p_idempotency ->> 'key';
$$;
