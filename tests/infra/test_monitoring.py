"""infra/monitoring: the alert rules fire on what the API really exposes, and the dashboard asks only for that."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from api.insight.metrics import CONDITIONS
from tests.calls import CLEANUP, add_session

Sql = psycopg.Connection[Any]
Samples = dict[str, list[tuple[dict[str, str], float]]]
METRICS = "/api/admin/metrics"
RULE = re.compile(r'(max|min)\((\w+)(?:\{(\w+)="([^"]+)"\})?\) == (\d)|absent\((\w+)\)')
FUNCTIONS = {"max", "min", "sum", "by", "rate", "increase", "time", "histogram_quantile"}
LABELS = {"policy", "condition", "kind", "status", "route", "le"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(__file__).parents[2] / "infra" / "monitoring"


@pytest.fixture(scope="module")
def rules(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((folder / "alerts.yaml").read_text())["groups"][0]["rules"]
    return found


def scrape(api: httpx.Client, admin: dict[str, str]) -> Samples:
    answer = api.get(METRICS, headers=admin)
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("# EOF\n")
    assert answer.text.count("# EOF") == 1
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def fires(expression: str, samples: Samples) -> bool:
    """Evaluate a rule as Prometheus does: these rules use no more of its language than this."""
    match = RULE.fullmatch(expression)
    assert match is not None, expression
    function, name, label, value, number, absent = match.groups()
    if absent:
        return absent not in samples
    values = [each for labels, each in samples.get(name, []) if label is None or labels[label] == value]
    return bool(values) and {"max": max, "min": min}[function](values) == int(number)


def test_each_condition_has_a_rule_with_a_chapter_of_the_runbook(rules: list[dict[str, Any]], checkout: Path) -> None:
    asked = {match[4] for rule in rules if (match := RULE.fullmatch(rule["expr"])) and match[3] == "condition"}
    assert asked == set(CONDITIONS)
    chapters = re.findall(r"^## (.+)$", (checkout / "docs" / "runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z -]", "", chapter.lower()).strip().replace(" ", "-") for chapter in chapters}
    assert {rule["annotations"]["runbook"].removeprefix("docs/runbook.md#") for rule in rules} <= anchors


def test_a_rule_fires_on_its_condition_and_no_other(
    rules: list[dict[str, Any]], api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    def firing() -> set[str]:
        samples = scrape(api, admin)
        return {rule["alert"] for rule in rules if fires(rule["expr"], samples)}

    sql.execute("update lull.policies_known set since = now(), oldest = null")
    assert firing() == set()
    sql.execute("insert into lull.file_removals (bucket, path, dead_at) values ('b', 'p', now())")
    assert firing() == {"LullDeadLetter"}
    sql.execute(
        "insert into lull.cleanup_runs (caller, at, lease_seconds, lease_until) "
        "values ('test', now(), 45, now() - interval '2 min')"
    )
    assert firing() == {"LullDeadLetter", "LullStuck"}


def test_the_numbers_of_runs_are_totals_that_pruning_does_not_lower(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    session = add_session(sql)
    sql.execute(
        "insert into lull.session_participants (session_id, anonymous_id, name, is_active, last_seen_at) "
        "values (%s, 'a', 'Ada', true, now() - interval '30 h')",
        (session,),
    )
    add_session(sql, age="1 h")
    assert scrape(api, admin)["lull_backlog_rows"] != []
    run = api.post(CLEANUP, headers=admin, params={"policy": "abandoned-drafts"}).json()["runId"]
    api.post(f"/api/admin/runs/{run}/restore", headers=admin)
    sql.execute("delete from lull.cleanup_runs")
    samples = scrape(api, admin)
    assert samples["lull_deleted_rows_total"] == [
        ({"policy": "abandoned-drafts", "table": "lull.session_participants"}, 1),
        ({"policy": "abandoned-drafts", "table": "lull.sessions"}, 1),
    ]
    assert samples["lull_restored_rows_total"] == [({}, 2)]
    assert samples["lull_runs_total"] == [({"status": "completed"}, 1)]
    assert samples["lull_sessions"] == [({"kind": "chat", "status": "draft"}, 2)]
    waiting = {labels["policy"]: value for labels, value in samples["lull_backlog_rows"]}
    assert waiting["abandoned-drafts"] == 0


def test_the_dashboard_asks_only_for_metrics_that_are_there(
    folder: Path, api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    add_session(sql)
    run = api.post(CLEANUP, headers=admin).json()["runId"]
    api.post(f"/api/admin/runs/{run}/restore", headers=admin)
    samples = scrape(api, admin)
    known = set(samples) | {f"{name}_bucket" for name in samples}
    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            words = set(re.findall(r"[a-z_]+", re.sub(r"\[\d+[mhd]\]|[\d.]+", "", target["expr"])))
            asked = words - FUNCTIONS - LABELS
            assert asked, target["expr"]
            assert asked <= known, target["expr"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_accepts_the_rules_and_the_queries_of_the_dashboard(folder: Path, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on the PATH (Debian: apt-get install prometheus)")
    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    recorded = [{"record": f"lull:query{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    subprocess.run([promtool, "check", "rules", str(folder / "alerts.yaml"), str(file)], check=True)
