"""Lull by pg_cron: one step after the other until the run has ended. pg_cron itself would wait between them."""

import os

import psycopg
from psycopg.types.json import Jsonb

from api.cleanup.policies import load_policies
from api.settings import Settings
from tests.bench.contenders.conversation import take_part


def main() -> None:
    (drafts,) = (
        each.arguments() for each in load_policies(Settings.model_construct()) if each.name == "abandoned-drafts"
    )
    plain = {"target": os.environ["SESSIONS"], "archive": False, "growth_factor": None}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        age = connection.execute("select extract(epoch from now() - %s::timestamptz)", [os.environ["CUTOFF"]]).fetchone()
        assert age is not None
        policy = drafts | plain | {"age_seconds": float(age[0]), "max_rows": 10**9, "max_cascaded": 10**9}
        connection.execute("select lull.apply_policies(%s)", [Jsonb([policy])])
        connection.execute("set statement_timeout = '30s'")

        def work() -> None:
            while True:
                row = connection.execute("select public.lull_cleanup_step(2000, 1)").fetchone()
                if row is None or row[0]["did"] in ("finished", "nothing"):
                    break
            if row is None or row[0].get("status") != "completed":
                raise RuntimeError(f"the steps ended with {row}")

        take_part(work)


main()
