"""What the pages of docs/ name exists: links, routes, variables, targets, verbs, policies, events."""

import re
import tomllib
from pathlib import Path

import pytest

from api.cleanup.policies import DEFAULT_FILE
from infra.__main__ import VERBS
from infra.api_document.page import PAGE, page
from infra.local.environment import ROOT
from tests.docs.blocks import PAGES
from tests.docs.programs import targets

TEXT = "\n".join(path.read_text() for path in PAGES)
EXAMPLE = {"POST /api/sessions/{id}/keep-alive"}  # the feature that a reader of CONTRIBUTING.md makes
LIFECYCLE = (ROOT / "docs" / "lifecycle.md").read_text()

# Variables of make, the shell and the examples; words in capitals that are none.
NOT_SETTINGS = {"API_URL", "DATABASE_URL", "LULL_HOME", "UPLOAD_URL", "TARGETING_MATCH", "CALLER_NO_BODY"}
NOT_SETTINGS |= {"SUPABASE_ANON_KEY", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "FORWARDED_ALLOW_IPS"}


def test_the_page_of_the_api_is_what_the_routes_say() -> None:
    assert PAGE.read_text() == page(), "run `python -m infra api-docs`"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT / "docs").as_posix())
def test_its_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors_of(target), f"{path.name} links to {link}"


def anchors_of(path: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
    assert len(anchors) == len(set(anchors)), f"{path.name} has two headings of one name"
    return anchors


# Words of the project's past, and what they are now; "seed" names documents that a reader does not have.
OLD_WORDS = {"seed 0": "the feature's name", "wing": "feature", "ledger": "event log, or migration state"}


def test_no_text_uses_a_word_that_was_replaced() -> None:
    names = ["api", "infra", "sql/functions", "docs", "sql/views.sql", "sql/grants.sql", "sql/migration_state.sql"]
    names += ["README.md", "CHANGELOG.md", ".env.example", "Makefile", "vercel.json"]
    texts = {".py", ".sql", ".md", ".toml", ".yaml", ".json", ".html", ".js", ".sh", ""}
    files = [file for name in names for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()]
    pattern = re.compile(rf"\b({'|'.join(OLD_WORDS)})s?", re.IGNORECASE)
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        if file.suffix in texts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == [], OLD_WORDS


def test_the_index_of_decisions_has_a_line_for_each_file_with_its_date_and_status() -> None:
    folder = ROOT / "docs" / "decisions"
    line = re.compile(r"^\| \[(\d{4})\]\((\d{4}-[a-z0-9-]+\.md)\) \| ([\d-]+) \| ([^|]+) \| ", re.MULTILINE)
    lines = line.findall((folder / "README.md").read_text())
    heads = [
        (number, file.name, *head.groups())
        for file in sorted(folder.glob("[0-9]*.md"))
        for number in [file.name[:4]]
        if (head := re.match(rf"# {number}: .+\n\n\*(\d{{4}}-\d\d-\d\d) · ([^*]+)\.\* ", file.read_text()))
    ]
    assert len({number for number, *_ in lines}) == len(lines) == len(list(folder.glob("[0-9]*.md")))
    assert heads == lines


def test_every_route_that_they_name_exists() -> None:
    routes = set(re.findall(r"^### (\w+ /api/\S+)$", PAGE.read_text(), re.MULTILINE))
    named = set(re.findall(r"\b((?:GET|POST|PUT|PATCH|DELETE) /api/[\w{}/.-]*[\w}])", TEXT))
    assert named - routes - EXAMPLE == {"GET /api/openapi.json"}


def test_every_variable_that_they_name_is_one() -> None:
    known = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    guides = "\n".join(path.read_text() for path in PAGES if "decisions" not in path.parts)
    text = re.sub(r"```sql\n.*?```", "", guides, flags=re.DOTALL)
    named = set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", text))
    assert named - known - NOT_SETTINGS == set()


def test_every_make_target_and_verb_that_they_name_exists() -> None:
    assert set(re.findall(r"(?:^|`)make (?:-s )?([a-z0-9-]+)", TEXT, re.MULTILINE)) <= targets()
    assert set(re.findall(r"python -m infra ([a-z][a-z-]*)", TEXT)) <= VERBS.keys()


def test_the_policies_of_the_lifecycle_and_the_readme_are_those_of_the_file() -> None:
    pattern = r"^\| `([a-z-]+)` \| [^|]+ \| ([\d.]+ \w+) \| (?:`(\w+)`)? ?\|"
    policies = tomllib.loads(DEFAULT_FILE.read_text())["policy"]
    assert sorted(re.findall(pattern, LIFECYCLE, re.MULTILINE)) == sorted(
        (policy["name"], policy["age"], policy.get("age_variable", "")) for policy in policies
    )
    rows = r"^\| (?:chat|game|room|user session) \|.*?\| ([^|]+) \| `(\w+)`"
    assert {variable: age for age, variable in re.findall(rows, (ROOT / "README.md").read_text(), re.MULTILINE)} == {
        policy["age_variable"]: policy["age"] for policy in policies if "age_variable" in policy
    }


def test_the_events_of_the_lifecycle_are_those_of_the_sql() -> None:
    section = LIFECYCLE.split("\n## Events")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    named = {event for row in rows for event in re.findall(r"`([a-z-]+)`", row)}
    sql = " ".join(file.read_text() for file in (ROOT / "sql" / "functions").glob("*/*.sql"))
    calls = re.findall(r"(?:append_\w*events?|change_status|move_\w*session)\(.*?;", sql, re.DOTALL)
    appended = {event for call in calls for event in re.findall(r"'([a-z]+(?:-[a-z]+)?)'", call)}
    appended |= set(re.findall(r"select v_session\.id, v_session\.kind, '([a-z]+)'", sql))  # by a trigger
    assert named <= appended
    assert {event for event in appended if event.endswith("ed")} - {"discarded"} == named
    of_people = r"((?:participant|session|item|feedback)\.[a-z]+)"
    assert set(re.findall(f"`{of_people}`", section)) == set(re.findall(f"'{of_people}'", sql))


def test_the_lines_of_the_doctor_in_the_checklist_exist() -> None:
    checklist = (ROOT / "docs" / "deploy.md").read_text().split("\n## Checklist")[1]
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", checklist, re.MULTILINE)
    lines = {name for _, proof in rows for name in re.findall(r"`([a-z-]+)`", proof.partition(";")[0])}
    sources = [*(ROOT / "api" / "doctor").glob("*.py"), *(ROOT / "infra" / "doctor").glob("*.py")]
    text = " ".join(file.read_text() for file in sources)
    assert [int(number) for number, _ in rows] == list(range(1, 14))
    assert {name for name in lines if not re.search(rf'(?:ok|warn|fail|check_clock)\(\s*"{name}"', text)} == set()
