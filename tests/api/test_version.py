"""The version stands in one place, and the changelog and the upgrade test keep up with it."""

import re
from datetime import date
from pathlib import Path

import httpx

from api import __version__

SECTION = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def ordered(version: str) -> tuple[int, ...]:
    """A version as numbers that can be compared."""
    return tuple(map(int, version.split(".")))


def released(checkout: Path) -> dict[str, date]:
    """The changelog's releases, in its order, with their days."""
    text = (checkout / "CHANGELOG.md").read_text()
    return {version: date.fromisoformat(day) for version, day in SECTION.findall(text)}


def previous(checkout: Path) -> tuple[str, str]:
    """The version and commit that the upgrade test starts from."""
    version, commit = (checkout / "tests" / "release" / "previous.txt").read_text().split()
    return version, commit


def test_health_and_the_document_show_it(api: httpx.Client) -> None:
    assert api.get("/api/health").json()["version"] == __version__
    assert api.get("/api/openapi.json").json()["info"]["version"] == __version__


def test_it_is_written_once(checkout: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    sources = [path for folder in ("api", "infra", "sql") for path in (checkout / folder).rglob("*.*")]
    kinds = {".py", ".sql", ".toml", ".yaml", ".js", ".html", ".sh"}
    written = [path for path in sources if path.suffix in kinds and f'"{__version__}"' in path.read_text()]
    assert written == [checkout / "api" / "__init__.py"]


def test_the_changelog_has_every_release_newest_first(checkout: Path) -> None:
    text, releases = (checkout / "CHANGELOG.md").read_text(), released(checkout)
    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    assert headings[0] == "## [Unreleased]"
    assert len(headings) == 1 + len(releases), "each heading is a version with its day"
    assert list(releases) == sorted(releases, key=ordered, reverse=True)
    assert list(releases.values()) == sorted(releases.values(), reverse=True)


def test_it_is_the_newest_release_or_the_one_to_come(checkout: Path) -> None:
    newest = next(iter(released(checkout)))
    unreleased = (checkout / "CHANGELOG.md").read_text().split("## [Unreleased]")[1].split("\n## ")[0]
    if "\n- " in unreleased:
        assert ordered(__version__) > ordered(newest), "what is unreleased needs a version of its own"
    else:
        assert ordered(__version__) >= ordered(newest)


def test_the_upgrade_test_starts_from_the_release_before(checkout: Path) -> None:
    version, commit = previous(checkout)
    before = [release for release in released(checkout) if ordered(release) < ordered(__version__)]
    assert version == before[0], "tests/release/previous.txt"
    assert re.fullmatch(r"[0-9a-f]{40}", commit)
