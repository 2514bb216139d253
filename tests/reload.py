"""How a test changes what a SQL function is allowed, and waits until PostgREST has noticed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg


@contextmanager
def statement_timeout(
    sql: psycopg.Connection[Any], environment: dict[str, str], function: str, seconds: int, usual: int
) -> Iterator[None]:
    """Let a function of schema public take so many seconds instead of its usual ones while the block lasts."""
    alter = f"alter function public.{function} set statement_timeout = '{{}}s'"
    sql.execute(alter.format(seconds))
    wait_for_a_reload(sql, environment)
    try:
        yield
    finally:
        sql.execute(alter.format(usual))
        wait_for_a_reload(sql, environment)


def wait_for_a_reload(sql: psycopg.Connection[Any], environment: dict[str, str]) -> None:
    """Wait until PostgREST knows the functions' settings as they are now: it then knows a new function, too."""
    name = f"made_{uuid4().hex}"
    sql.execute(f"create function public.{name}() returns int language sql return 1")
    sql.execute(f"grant execute on function public.{name} to service_role; notify pgrst, 'reload schema'")
    key = environment["SUPABASE_SECRET_KEY"]
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    with httpx.Client(headers=headers, trust_env=False) as client:
        while client.post(f"{environment['SUPABASE_URL']}/rest/v1/rpc/{name}", json={}).status_code != 200:
            time.sleep(0.05)
    sql.execute(f"drop function public.{name}")
