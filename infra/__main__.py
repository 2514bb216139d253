"""`python -m infra <verb>`: everything that a developer or operator runs."""

import argparse
import os
import sys
from collections.abc import Callable

Verb = Callable[[list[str]], int]


def dev(argv: list[str]) -> int:
    from infra import dev as module
    from infra.migrate import add_seed_views

    parser = argparse.ArgumentParser(prog="python -m infra dev", description=module.__doc__)
    add_seed_views(parser)
    return module.run(os.environ, seed_views=parser.parse_args(argv).seed_views)


def demo(argv: list[str]) -> int:
    from infra.demo import walkthrough as module

    return module.main(argv, os.environ)


def api_docs(argv: list[str]) -> int:
    from infra.api_document import page as module

    return module.main(argv)


def migrate(argv: list[str]) -> int:
    from infra import migrate as module

    return module.main(argv, os.environ)


def uninstall(argv: list[str]) -> int:
    from infra import uninstall as module

    return module.main(argv, os.environ)


def serve(argv: list[str]) -> int:
    from infra import serve as module

    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m infra serve", description=module.__doc__, formatter_class=formatter
    )
    parser.parse_args(argv)
    return module.run(os.environ)


def doctor(argv: list[str]) -> int:
    from infra.doctor import command as module

    return module.main(argv, os.environ)


def package_aws(argv: list[str]) -> int:
    from infra.aws import package as module

    return module.main(argv, os.environ)


VERBS: dict[str, tuple[str, Verb]] = {
    "dev": (
        "run a local Supabase and the API until Ctrl-C (PORT, LULL_HOME, or SUPABASE_URL for a real project)",
        dev,
    ),
    "demo": ("show a cleanup on 2,000 sessions: a dry run, the run, and the sessions that stayed", demo),
    "serve": ("serve the API with the cleanup's scheduler inside, on any host (HOST, PORT)", serve),
    "migrate": (
        "bring the database at DATABASE_URL up to date; --print writes one file for the SQL editor",
        migrate,
    ),
    "uninstall": (
        "take Lull out of the database at DATABASE_URL; --print writes the SQL for the SQL editor",
        uninstall,
    ),
    "doctor": (
        "check a deployment and say how to fix it: here, or by --url https://… with CRON_SECRET set",
        doctor,
    ),
    "package-aws": ("build the zip that AWS Lambda runs, and print its size", package_aws),
    "api-docs": ("write docs/api.md from the routes", api_docs),
}


def usage() -> str:
    """Return the verbs, one line each."""
    width = max(map(len, VERBS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (what, _) in VERBS.items()]
    return "\n".join(["python -m infra <verb>", "", *lines, f"  {'help'.ljust(width)}  show this"])


def main(argv: list[str]) -> int:
    """Run the verb that the first argument names."""
    name = argv[0] if argv else "help"
    if name in ("help", "-h", "--help"):
        print(usage())
        return 0
    if name not in VERBS:
        print(f"There is no verb {name!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    return VERBS[name][1](argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
