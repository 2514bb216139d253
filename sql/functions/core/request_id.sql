-- Core: the request of which a call is a part. The API passes its id with each call: over PostgREST as the header
-- X-Request-Id, directly as the connection's name (`lull <id>`), for the transaction of the call alone.

-- The id of the request that made this call; null when there is none.
create or replace function lull.request_id()
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(
    nullif(current_setting('lull.request_id', true), ''),  -- of an id that is too long for a connection's name
    substring(current_setting('application_name', true) from '^lull ([A-Za-z0-9._-]{1,58})$'),
    substring(nullif(current_setting('request.headers', true), '')::json ->> 'x-request-id'
      from '^[A-Za-z0-9._-]{1,64}$'));
end
$$;
