"""lull.adopt() and the cleanup, where Lull belongs to a role that is not superuser and the tables to somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from tests.database import migrated
from tests.sql.blank import blank_database, create_role
from tests.sql.team_tables import adopt, clean, create, create_table
from tests.sql_servers import Connection, Server

TRUSTED = "{lull_team}"  # the tables are another role's, which this adoption trusts


@pytest.fixture
def url(sql_server: Server) -> Iterator[str]:
    """A database that belongs to lull_owner, who migrated it; the tables belong to lull_team."""
    create_role(sql_server, "lull_owner")
    create_role(sql_server, "lull_team")
    with blank_database(sql_server, owner="lull_owner") as database:
        migrated(make_conninfo(database.url, user="lull_owner", password="secret"))
        admin = database.connect()
        admin.execute("grant create on schema public to lull_team")
        admin.execute("set role lull_team")
        create_table(admin, "public.things", "id int primary key", "(1)")
        create(
            admin,
            "create table parts (thing int references things on delete cascade)",
            "create index on parts (thing)",
            "insert into parts values (1)",
        )
        yield database.url


@pytest.fixture
def admin(url: str) -> Iterator[Connection]:
    """A superuser, who may call lull.adopt() and lends the cleanup no rights."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


def refusal(connection: Connection, table: str = "public.things") -> str:
    with pytest.raises(psycopg.Error) as caught:
        adopt(connection, table, p_trust=TRUSTED)
    assert caught.value.diag.message_detail == "not-adoptable", caught.value
    return str(caught.value.diag.message_primary).removeprefix(f"{table} cannot be adopted: ")


def grant(connection: Connection, rights: str = "select, insert, update, delete") -> None:
    connection.execute(f"grant {rights} on things, parts to lull_owner")


@pytest.mark.parametrize("lacking", ["select", "insert", "update", "delete"])
def test_a_right_that_the_owner_of_lull_lacks_is_a_reason_on_every_level(
    admin: Connection, lacking: str
) -> None:
    grant(admin)
    admin.execute(f"revoke {lacking} on things, parts from lull_owner")
    assert set(refusal(admin).rstrip(".").split("; ")) == {
        "lull_owner may not select, insert, update and delete in public.things",
        "lull_owner may not select, insert, update and delete in public.parts",
    }


def test_with_its_rights_granted_the_table_is_adopted_and_cleaned_by_the_service(admin: Connection) -> None:
    grant(admin)
    adopt(admin, "public.things", p_trust=TRUSTED)
    admin.execute("set role service_role")
    assert clean(admin, "public.things")["cascaded"] == 1
    admin.execute("reset role")
    assert admin.execute("select from things").fetchall() == []


def test_a_schema_that_the_owner_of_lull_may_not_use_is_a_reason(admin: Connection) -> None:
    create(admin, "create schema private", "alter table parts set schema private")
    admin.execute("grant all on things, private.parts to lull_owner")
    assert refusal(admin) == "lull_owner may not use the schema private."


@pytest.mark.parametrize("table", ["things", "parts"])
def test_row_security_of_another_owner_is_a_reason(admin: Connection, table: str) -> None:
    grant(admin)
    admin.execute(f"alter table {table} enable row level security")
    assert refusal(admin) == f"row security of public.{table} hides rows from lull_owner."


def test_row_security_of_its_own_table_is_none_unless_forced(admin: Connection) -> None:
    create(admin, "alter table things owner to lull_owner", "alter table parts owner to lull_owner")
    create(
        admin, "alter table things enable row level security", "alter table parts enable row level security"
    )
    adopt(admin, "public.things", p_trust=TRUSTED)
    admin.execute("set role service_role")
    assert clean(admin, "public.things")["did"] == 1
    admin.execute("reset role")
    admin.execute("alter table things force row level security")
    assert refusal(admin) == "row security of public.things hides rows from lull_owner."


def test_row_security_does_not_matter_to_an_owner_that_bypasses_it(
    admin: Connection, sql_server: Server
) -> None:
    grant(admin)
    create(admin, "alter table things enable row level security", "alter role lull_owner bypassrls")
    try:
        adopt(admin, "public.things", p_trust=TRUSTED)
        admin.execute("set role service_role")
        assert clean(admin, "public.things")["did"] == 1
    finally:
        create(admin, "reset role", "alter role lull_owner nobypassrls")


def test_rights_that_were_taken_away_later_fail_the_policy_alone(admin: Connection) -> None:
    grant(admin)
    adopt(admin, "public.things", p_trust=TRUSTED)
    admin.execute("revoke delete on things from lull_owner")
    admin.execute("set role service_role")
    done = clean(admin, "public.things")
    assert done["outcome"] == "failed"
    assert "lull_owner may not select, insert, update and delete in public.things" in str(done)
