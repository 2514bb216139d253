"""Check a deployment, here from the environment or by URL: one line each, and how to fix what is wrong."""

import argparse
import ipaddress
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from api.doctor.check_result import CheckResult
from infra import migrate
from infra.doctor.deployment import checks_by_url, open_client
from infra.doctor.here import checks_here, read_env_file
from infra.doctor.release import read_release
from infra.local.environment import DEV_ENV, home


def main(argv: list[str], environ: Mapping[str, str], *, sql: Path = migrate.SQL) -> int:
    """Print the results. Returns 0 when nothing fails, else 1; a wrong call is 2."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.url and arguments.interval:
        parser.error("--interval goes without --url: a deployment has its own CLEANUP_INTERVAL_MINUTES")
    environ = {**environ, **_file_settings(parser, arguments, environ)}
    with _silence():
        if arguments.url:
            url, secret = _address(parser, arguments.url), environ.get("CRON_SECRET", "").strip()
            if not secret.isascii() or not secret:
                parser.error("--url needs the deployment's CRON_SECRET in the environment (or --env-file)")
            with open_client(url) as client:
                policies_file = environ.get("POLICIES_FILE") or None
                results = checks_by_url(client, secret, read_release(sql), policies_file)
        else:
            results = checks_here(read_release(sql), environ, arguments.interval)
    _print(results, as_json=arguments.json)
    return int(any(result.status == "fail" for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra doctor", description=__doc__)
    parser.add_argument("--url", help="examine this deployment instead, such as https://example.vercel.app")
    parser.add_argument(
        "--env-file",
        type=Path,
        help="KEY=VALUE lines that win over the environment (default: dev.env of `make dev`, when it runs "
        "and SUPABASE_URL is not set)",
    )
    parser.add_argument(
        "--interval",
        type=_interval,
        metavar="MINUTES",
        help="how often runs are expected (default: CLEANUP_INTERVAL_MINUTES)",
    )
    parser.add_argument("--json", action="store_true", help="print [{check, status, message, fix}, …]")
    return parser


def _interval(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_080:
        raise argparse.ArgumentTypeError("must be whole minutes, 1 to 10080")
    return int(text)


def _file_settings(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, environ: Mapping[str, str]
) -> dict[str, str]:
    file: Path | None = arguments.env_file
    if file is None and not arguments.url and not environ.get("SUPABASE_URL"):
        written = home(environ) / DEV_ENV
        file = written if written.exists() else None
    if file is None:
        return {}
    try:
        values = read_env_file(file)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--env-file: {error}")
    print(f"settings of {file}", file=sys.stderr)
    return values


def _address(parser: argparse.ArgumentParser, url: str) -> str:
    """The deployment's address. Refuses http:// for a host on the internet: the secret would be sent unencrypted."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        parser.error(f"--url must be an address such as https://example.vercel.app, not {url!r}")
    if parts.scheme == "http" and not _is_near(parts.hostname):
        parser.error("--url begins with http://: the secret would be sent unencrypted; use https://")
    return url.rstrip("/").removesuffix("/api")


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


@contextmanager
def _silence() -> Iterator[None]:
    """Turn off the log of the API's parts: the results report errors."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _print(results: list[CheckResult], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([result.model_dump() for result in results], indent=2, ensure_ascii=False))
        return
    width = max(len(result.check) for result in results)
    for result in results:
        fix = f"  Fix: {result.fix}" if result.fix else ""
        print(_one_line(f"{result.status:<4}  {result.check:<{width}}  {result.message}{fix}"))
    counts = Counter("unknown" if result.is_unknown else result.status for result in results)
    failed = list(dict.fromkeys(result.check for result in results if result.status == "fail"))
    unknown = f", {counts['unknown']} not checked" if counts["unknown"] else ""
    named = f": {', '.join(failed)}" if failed else ""
    print(f"\n{counts['ok']} ok, {counts['warn']} to look at{unknown}, {counts['fail']} to fix now{named}")


def _one_line(text: str) -> str:
    """Remove line breaks and control characters: some texts come from other machines."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
