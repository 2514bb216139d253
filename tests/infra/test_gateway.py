"""The gateway and the PostgREST behind it behave as a hosted project does."""

import time
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest
from psycopg.rows import DictRow

from infra.local import ports
from infra.local.gateway import create_gateway
from infra.local.stack import LocalSupabase
from tests.in_process import client_of

Headers = Callable[[str], dict[str, str]]
PROBE = """
create table public.probe (n int);
insert into public.probe select generate_series(1, 1500);
create function public.probe_role() returns text language sql as 'select current_user::text';
create function public.probe_rows() returns setof public.probe language sql security definer
  as 'select * from public.probe';
create function public.probe_raise() returns void language plpgsql
  as $$ begin raise sqlstate 'PT418' using message = 'a sentence', detail = 'a-slug'; end $$;
"""


@pytest.fixture(scope="module")
def as_role(running_stack: LocalSupabase) -> Headers:
    def headers(role: str) -> dict[str, str]:
        key = running_stack.credentials.key(role)
        return {"apikey": key, "Authorization": f"Bearer {key}"}

    return headers


@pytest.fixture(scope="module")
def rest(running_stack: LocalSupabase) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{running_stack.supabase_url}/rest/v1", trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def probe(
    shared_connection: psycopg.Connection[DictRow], rest: httpx.Client, as_role: Headers
) -> Iterator[str]:
    """A table and functions in `public`, made as a migration without any grant would make them."""
    sql = shared_connection
    sql.execute(PROBE)
    sql.execute("notify pgrst, 'reload schema'")
    deadline = time.monotonic() + 10
    while rest.post("/rpc/probe_role", headers=as_role("anon")).status_code == 404:
        assert time.monotonic() < deadline
    yield "probe"
    sql.execute(
        "drop function public.probe_role, public.probe_rows, public.probe_raise; drop table public.probe"
    )
    sql.execute("notify pgrst, 'reload schema'")


def test_a_project_without_signing_keys_publishes_an_empty_set(
    running_stack: LocalSupabase,
) -> None:
    answer = httpx.get(f"{running_stack.supabase_url}/auth/v1/.well-known/jwks.json", trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"keys": []})


def test_a_request_without_a_key_is_refused(rest: httpx.Client) -> None:
    answer = rest.get("/")
    assert answer.status_code == 401
    assert answer.json()["message"] == "No API key found in request"


def test_a_key_of_another_project_is_refused(rest: httpx.Client) -> None:
    answer = rest.get("/", headers={"apikey": "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"})
    assert answer.status_code == 401
    assert answer.json()["message"] == "Invalid API key"


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_a_key_acts_as_its_role(rest: httpx.Client, probe: str, as_role: Headers, role: str) -> None:
    assert rest.post("/rpc/probe_role", headers=as_role(role)).json() == role
    only_key = {"apikey": as_role(role)["apikey"]}
    assert rest.post("/rpc/probe_role", headers=only_key).json() == role


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_a_new_table_is_granted_to_no_role(
    rest: httpx.Client, probe: str, as_role: Headers, role: str
) -> None:
    answer = rest.get(f"/{probe}", headers=as_role(role))
    assert answer.status_code in (401, 403)
    assert answer.json()["code"] == "42501"


def test_rows_past_1000_are_cut(rest: httpx.Client, probe: str, as_role: Headers) -> None:
    assert len(rest.post("/rpc/probe_rows", headers=as_role("service_role")).json()) == 1000
    filtered = rest.post("/rpc/probe_rows?n=in.(7,8)&order=n.desc", headers=as_role("service_role"))
    assert filtered.json() == [{"n": 8}, {"n": 7}]


def test_a_raised_sqlstate_becomes_the_http_status(rest: httpx.Client, probe: str, as_role: Headers) -> None:
    answer = rest.post("/rpc/probe_raise", headers=as_role("service_role"))
    assert answer.status_code == 418
    assert (answer.json()["message"], answer.json()["details"]) == ("a sentence", "a-slug")


def test_statements_are_cancelled_as_on_a_hosted_project(sql: psycopg.Connection[DictRow]) -> None:
    settings = sql.execute(
        "select rolname, rolconfig from pg_roles where rolname = any (%s)",
        [
            ["anon", "authenticated", "authenticator", "service_role"],
        ],
    ).fetchall()
    assert {row["rolname"]: row["rolconfig"] for row in settings} == {
        "anon": ["statement_timeout=3s"],
        "authenticated": ["statement_timeout=8s"],
        "authenticator": ["statement_timeout=8s", "lock_timeout=8s"],
        "service_role": None,
    }


def test_without_postgrest_it_answers_502(running_stack: LocalSupabase, as_role: Headers) -> None:
    nobody = f"http://{ports.HOST}:{ports.find_free()}"
    with client_of(create_gateway(nobody, running_stack.credentials.jwt_secret)) as client:
        assert client.get("/rest/v1/", headers=as_role("service_role")).status_code == 502
        assert client.get("/storage/v1/bucket", headers=as_role("service_role")).status_code == 404


def test_a_page_of_another_origin_may_upload_by_a_signed_url(running_stack: LocalSupabase) -> None:
    url = f"{running_stack.supabase_url}/storage/v1/object/upload/sign/b/a.txt?token=x"
    asked = {"Origin": "http://app.test", "Access-Control-Request-Method": "PUT"}
    with httpx.Client(trust_env=False) as client:
        preflight = client.options(url, headers=asked | {"Access-Control-Request-Headers": "x-upsert"})
        answer = client.put(url, content=b"x", headers={"Origin": "http://app.test"})
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json()["error"] == "InvalidJWT", "Storage itself looked at it"
