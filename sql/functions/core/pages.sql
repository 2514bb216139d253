-- Sizes: JSON is measured as Postgres writes it, which is what is sent and parsed. 1e308 has five characters in a
-- request and 309 digits in an answer.

-- Refuse a value that is longer than p_most bytes as text: 422 that names the field. The value may be null.
create or replace function lull.check_size(p_field text, p_value jsonb, p_most integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  v_size integer := octet_length(p_value::text);
  v_message text;
begin
  if v_size > p_most then
    v_message := format(
      'must be at most %s bytes as Postgres writes JSON (numbers in full, a blank behind each comma), and is %s',
      p_most, v_size);
    perform lull.refuse(422, 'invalid-request', format('%s: %s', p_field, v_message),
      jsonb_build_object('errors',
        jsonb_build_array(jsonb_build_object('field', p_field, 'message', v_message)))::text);
  end if;
end
$$;

-- The first items of a JSON array that make a page: at most p_limit, and at most 900,000 bytes as text, so that an
-- answer stays below 1 MB. One item at least: an item that is larger alone is a page of its own.
create or replace function lull.fit_page(p_items jsonb, p_limit integer)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_page jsonb[] := '{}';
  v_size bigint := 0;
  v_item jsonb;
begin
  for v_item in select i from jsonb_array_elements(p_items) with ordinality as _ (i, n) order by n limit p_limit loop
    v_size := v_size + octet_length(v_item::text);
    exit when v_size > 900000 and v_page <> '{}';
    v_page := v_page || v_item;
  end loop;
  return to_jsonb(v_page);
end
$$;
