"""Bring a database to this release: migrations once, then functions, views, grants and policies.

Everything is one script in one transaction under one lock, so that two deploys cannot race and a failure
changes nothing. `--print` writes the same script for the Supabase SQL editor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from api.cleanup.policies import load_policies
from api.settings import Settings

SQL = Path(__file__).resolve().parent.parent / "sql"
LOCK = 7_105_884_262  # the advisory lock of a migration; any constant

_ALREADY_THERE = ("42P06", "42P07")  # "schema ... already exists, skipping": not printed

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

_SET_SEED_VIEWS = """\
insert into lull.settings (name, value) values ('seed-views', '{value}')
on conflict (name) do update set value = excluded.value;
"""
_SEED_VIEWS = {
    None: [],
    True: [_SET_SEED_VIEWS.format(value="true")],
    False: [_SET_SEED_VIEWS.format(value="false")],
}

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
    """Return the SHA-256 of a migration's text in hexadecimal; line endings are normalised."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def function_files(sql: Path = SQL) -> list[Path]:
    """List the function files in the order they are applied: core first, then the features by name."""
    return sorted(
        (sql / "functions").glob("*/*.sql"), key=lambda path: (path.parent.name != "core", path.as_posix())
    )


def script(policies: list[dict[str, object]], sql: Path = SQL, *, seed_views: bool | None = None) -> str:
    """Compose the whole migration as one SQL text that can be run any number of times.

    `seed_views` says whether `public` gets the views `fe_chat_sessions`, `reading_sessions` and
    `session_participants`; None keeps what an earlier migration was told (at first: yes).
    """
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
            "set local jit = off;",
            f"select pg_advisory_xact_lock({LOCK});",
            (sql / "migration_state.sql").read_text(encoding="utf-8"),
            *migrations,
            _LATER.format(names=",".join(path.name for path in paths)),
            *functions,
            "select lull.retire_helpers();",  # tells by xmin what this migration made: before grants.sql writes to all
            *_SEED_VIEWS[seed_views],
            (sql / "views.sql").read_text(encoding="utf-8"),
            (sql / "grants.sql").read_text(encoding="utf-8"),
            "select lull.rebase_event_log();",
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
    seed_views: bool | None = None,
) -> None:
    """Run the script on a database. Raises psycopg.Error with a sentence; nothing was changed then."""
    with psycopg.connect(database_url, autocommit=True, application_name="lull migrate") as connection:
        connection.add_notice_handler(
            lambda notice: None if notice.sqlstate in _ALREADY_THERE else say(notice.message_primary or "")
        )
        connection.execute("set client_min_messages = notice")
        connection.execute(script(policies, sql, seed_views=seed_views).encode())


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Migrate DATABASE_URL, or print the script. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra migrate", description=__doc__)
    parser.add_argument(
        "--print", action="store_true", help="write the SQL to paste into the Supabase SQL editor"
    )
    parser.add_argument(
        "--database-url", default=environ.get("DATABASE_URL"), help="default: DATABASE_URL"
    )
    add_seed_views(parser)
    arguments = parser.parse_args(argv)
    policies = [policy.arguments() for policy in load_policies(Settings.from_environ(environ))]
    if arguments.print:
        sys.stdout.write(script(policies, seed_views=arguments.seed_views))
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
        seed_views = arguments.seed_views
        apply(arguments.database_url, policies, say=lambda line: print(f"  {line}"), seed_views=seed_views)
    except psycopg.Error as error:
        print(f"Nothing was changed. {sentence(error)}", file=sys.stderr)
        return 1
    print(f"The database is at this release; {len(policies)} policies are stored.")
    return 0


def add_seed_views(parser: argparse.ArgumentParser) -> None:
    """Add --with-seed-views and --without-seed-views: `seed_views` is None where neither is given."""
    views = "the views public.fe_chat_sessions, reading_sessions and session_participants"
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--without-seed-views",
        dest="seed_views",
        action="store_const",
        const=False,
        help=f"leave out {views}, so that tables of yours can have those names; later migrations keep to it",
    )
    choice.add_argument(
        "--with-seed-views", dest="seed_views", action="store_const", const=True, help=f"create {views} again"
    )


def sentence(error: psycopg.Error) -> str:
    """Return the error's message, without the context lines after it."""
    return error.diag.message_primary or str(error).strip()
