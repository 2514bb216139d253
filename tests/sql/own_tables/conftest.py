"""Which servers the tests of teams' tables run on: `make test` takes Postgres 18, `make release-check` 15 as well."""

from __future__ import annotations

import pytest

from tests.scale import SCALE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave Postgres 15 to the release check, but for the random schemas."""
    if SCALE > 1:
        return
    later = [
        item
        for item in items
        if "sql/own_tables/" in item.nodeid and "postgres15" in item.name and "random_schema" not in item.name
    ]
    config.hook.pytest_deselected(items=later)
    left = set(later)
    items[:] = [item for item in items if item not in left]
