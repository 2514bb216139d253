"""SQL functions that answer, wait and fail as a test asks: what Lull's own functions do, one thing at a time."""

from typing import Any

import psycopg

from tests.reload import wait_for_a_reload

# name(arguments): settings and body. Each returns jsonb and is in schema public while the tests last.
_PROBES = {
    """probe_types(
      p_uuid uuid default null, p_jsonb jsonb default null, p_text text default null, p_integer integer default null,
      p_bigint bigint default null, p_boolean boolean default null, p_bigints bigint[] default null,
      p_texts text[] default null, p_time timestamptz default null, p_bytes bytea default null,
      p_numeric numeric default null, p_float float8 default null, p_default text default 'as it comes')""": """
    set timezone = 'UTC' as $$ begin return jsonb_build_object('uuid', p_uuid, 'jsonb', p_jsonb, 'text', p_text,
      'integer', p_integer, 'bigint', p_bigint, 'boolean', p_boolean, 'bigints', p_bigints::text,
      'texts', p_texts::text, 'time', p_time, 'bytes', encode(p_bytes, 'hex'), 'numeric', p_numeric,
      'float', p_float, 'default', p_default, 'jsonb is', jsonb_typeof(p_jsonb)); end $$""",
    "probe_answer(p_json text)": "as $$ begin return p_json::jsonb; end $$",
    "probe_error(p_code text, p_message text, p_detail text default '', p_hint text default '')": """
    as $$ begin raise exception using errcode = p_code, message = p_message, detail = p_detail, hint = p_hint; end $$""",
    "probe_slow(p_seconds float8)": """
    set statement_timeout = '700ms' as $$ begin perform pg_sleep(p_seconds); return '{"slept": true}'; end $$""",
    "probe_wait(p_seconds float8)": """
    set statement_timeout = '1min' as $$ begin perform pg_sleep(p_seconds); return '{"slept": true}'; end $$""",
    "probe_read()": """
    stable as $$ begin return jsonb_build_object('read only', current_setting('transaction_read_only')); end $$""",
    "probe_write()": """
    as $$ begin return jsonb_build_object('read only', current_setting('transaction_read_only'),
      'number', nextval('public.probe_numbers')); end $$""",
    "probe_die()": """
    security definer as $$ begin perform nextval('public.probe_numbers'), pg_terminate_backend(pg_backend_pid());
      perform pg_sleep(60); return '{}'; end $$""",
    "probe_forbidden()": "as $$ begin return '{}'; end $$",
}


def create_probes(sql: psycopg.Connection[Any], environment: dict[str, str]) -> None:
    """Create the probes, and wait until PostgREST knows them."""
    sql.execute("create sequence public.probe_numbers; grant usage on sequence public.probe_numbers to service_role")
    for signature, body in _PROBES.items():
        sql.execute(f"create function public.{signature} returns jsonb language plpgsql {body}")
    sql.execute("revoke execute on function public.probe_forbidden from public")
    wait_for_a_reload(sql, environment)


def drop_probes(sql: psycopg.Connection[Any]) -> None:
    """Leave nothing of them."""
    for signature in _PROBES:
        sql.execute(f"drop function public.{signature.partition('(')[0]}")
    sql.execute("drop sequence public.probe_numbers")
