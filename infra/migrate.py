"""Bring a database to this release: migrations once, then functions, views, grants and policies.

Everything is one script in one transaction under one lock, so that two deploys cannot race and a failure
changes nothing. `--print` writes the same script for the Supabase SQL editor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from api.cleanup.policies import load_policies
from api.settings import load_settings

SQL = Path(__file__).resolve().parent.parent / "sql"
LOCK = 7_105_884_262  # any constant: the advisory lock that two deploys share

_ALREADY_THERE = ("42P06", "42P07")  # "schema ... already exists, skipping": news to nobody

_MIGRATION = """\
do $lull_migration$
declare
  v_checksum text := (select checksum from lull.migrations where name = '{name}');
begin
  if v_checksum is null then
    execute $lull_sql${sql}$lull_sql$;
    insert into lull.migrations (name, checksum) values ('{name}', '{checksum}');
    raise notice 'applied {name}';
  elsif v_checksum <> '{checksum}' then
    raise exception 'Migration {name} was edited after it had been applied. Nothing was changed. %',
      'Restore the file, and put the change into a new migration.';
  end if;
end
$lull_migration$;
"""

_FUNCTIONS = "select lull.replace_functions($lull_sql${sql}$lull_sql$);\n"

_LATER = """\
do $$
declare
  v_later text := (
    select string_agg(name, ', ' order by name) from lull.migrations where name <> all ('{{{names}}}'));
begin
  if v_later is not null then
    raise notice 'This database was at a later release (%). Its tables stay as they are, %', v_later,
      'its functions are now those of this one.';
  end if;
end
$$;
"""


def checksum(text: str) -> str:
    """Return the SHA-256 of a migration's text, as hexadecimal; line endings do not count."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def function_files(sql: Path = SQL) -> list[Path]:
    """List the function files in the order they are applied: core first, then the wings by name."""
    return sorted(
        (sql / "functions").glob("*.sql"), key=lambda path: (not path.name.startswith("core"), path.name)
    )


def script(policies: list[dict[str, object]], sql: Path = SQL) -> str:
    """Compose the whole migration as one SQL text that can be run any number of times."""
    paths = sorted((sql / "migrations").glob("*.sql"))
    migrations = [
        _MIGRATION.format(name=path.name, sql=text, checksum=checksum(text))
        for path in paths
        for text in [path.read_text(encoding="utf-8")]
    ]
    functions = [_FUNCTIONS.format(sql=path.read_text(encoding="utf-8")) for path in function_files(sql)]
    return "\n".join(
        [
            "-- Lull: run this whole file at once. It can be run again; it changes nothing twice.",
            "begin;",
            "set local search_path = '';",
            "set local check_function_bodies = off;",
            "set local statement_timeout = 0;",
            f"select pg_advisory_xact_lock({LOCK});",
            (sql / "ledger.sql").read_text(encoding="utf-8"),
            *migrations,
            _LATER.format(names=",".join(path.name for path in paths)),
            *functions,
            "select lull.retire_helpers();",
            (sql / "views.sql").read_text(encoding="utf-8"),
            (sql / "grants.sql").read_text(encoding="utf-8"),
            f"select lull.apply_policies($lull_policies${json.dumps(policies)}$lull_policies$);",
            "notify pgrst, 'reload schema';",
            "commit;",
            "",
        ]
    )


def apply(
    database_url: str,
    policies: list[dict[str, object]],
    *,
    sql: Path = SQL,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the script on a database. Raises psycopg.Error with a sentence; then nothing was changed."""
    with psycopg.connect(database_url, autocommit=True, application_name="lull migrate") as connection:
        connection.add_notice_handler(
            lambda notice: None if notice.sqlstate in _ALREADY_THERE else say(notice.message_primary or "")
        )
        connection.execute("set client_min_messages = notice")
        connection.execute(script(policies, sql).encode())


def main(argv: list[str]) -> int:
    """Migrate DATABASE_URL, or print the script. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra migrate", description=__doc__)
    parser.add_argument(
        "--print", action="store_true", help="write the SQL to paste into the Supabase SQL editor"
    )
    parser.add_argument(
        "--database-url", default=os.environ.get("DATABASE_URL"), help="default: DATABASE_URL"
    )
    arguments = parser.parse_args(argv)
    policies = [policy.arguments() for policy in load_policies(load_settings())]
    if arguments.print:
        sys.stdout.write(script(policies))
        return 0
    if not arguments.database_url:
        print(
            "No database was named. Set DATABASE_URL (Supabase: Connect > Session pooler), or run\n"
            "  python -m infra migrate --print > lull.sql\n"
            "and paste the file into the Supabase SQL editor.",
            file=sys.stderr,
        )
        return 2
    try:
        apply(arguments.database_url, policies, say=lambda line: print(f"  {line}"))
    except psycopg.Error as error:
        print(f"Nothing was changed. {sentence(error)}", file=sys.stderr)
        return 1
    print(f"The database is at this release; {len(policies)} policies are stored.")
    return 0


def sentence(error: psycopg.Error) -> str:
    """Say what the database said, without the context lines that follow its message."""
    return error.diag.message_primary or str(error).strip()
