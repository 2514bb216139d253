"""Take Lull out of a database: its functions, views and schema, and nothing that Lull did not make.

It stops, changing nothing, while something outside Lull refers to it (the statements that remove it are printed),
and while the archive holds rows that can be restored. `--print` writes the SQL to paste into the SQL editor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

import psycopg

from infra.migrate import SQL, sentence

SCRIPT = SQL / "uninstall.sql"


def script(*, discard_archive: bool = False) -> str:
    """Return the uninstallation as one SQL text; nothing is changed when it raises."""
    allowed = "select set_config('lull.discard_archive', 'yes', false);\n" if discard_archive else ""
    return allowed + SCRIPT.read_text(encoding="utf-8")


def apply(database_url: str, *, discard_archive: bool = False, say: Callable[[str], None] = lambda _: None) -> None:
    """Run the script on a database. Raises psycopg.Error with a sentence; then nothing was changed."""
    with psycopg.connect(database_url, autocommit=True, application_name="lull uninstall") as connection:
        connection.add_notice_handler(
            lambda notice: say(notice.message_primary or "") if notice.severity == "NOTICE" else None
        )
        connection.execute("set client_min_messages = notice")
        connection.execute(script(discard_archive=discard_archive).encode())


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Uninstall from DATABASE_URL, or print the script. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra uninstall", description=__doc__)
    parser.add_argument("--print", action="store_true", help="write the SQL to paste into the Supabase SQL editor")
    parser.add_argument("--database-url", default=environ.get("DATABASE_URL"), help="default: DATABASE_URL")
    parser.add_argument("--discard-archive", action="store_true", help="let rows go that could still be restored")
    arguments = parser.parse_args(argv)
    if arguments.print:
        sys.stdout.write(script(discard_archive=arguments.discard_archive))
        return 0
    if not arguments.database_url:
        print("No database was named: set DATABASE_URL, or use --print.", file=sys.stderr)
        return 2
    try:
        apply(
            arguments.database_url,
            discard_archive=arguments.discard_archive,
            say=lambda line: print(f"  {line}"),
        )
    except psycopg.Error as error:
        print(sentence(error), file=sys.stderr)
        return 1
    return 0
