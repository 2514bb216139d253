"""Which programs the pages may use: those that are run here, and those that are not, with the reason.

Of a command that is not run, what can be checked is checked: that the names in it are those of this tree.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from infra.__main__ import VERBS
from infra.local.environment import ROOT

RUN = {"curl", "make"}


@dataclass(frozen=True)
class NotRun:
    """A command that the tests do not run."""

    reason: str
    check: Callable[[list[str]], None]


def _option(words: list[str], name: str) -> str | None:
    """What follows an option; None without it."""
    return words[words.index(name) + 1] if name in words else None


def _openssl(words: list[str]) -> None:
    assert words == ["openssl", "rand", "-base64", "32"]


def _vercel(words: list[str]) -> None:
    """Variables are Lull's, and go to an environment that Vercel has."""
    match words[1:]:
        case ["env", "add", name, environment]:
            example = (ROOT / ".env.example").read_text()
            assert re.search(rf"^{name}=", example, re.MULTILINE), words
            assert environment in {"production", "preview", "development"}, words
        case other:
            assert other in (["link"], ["deploy", "--prod"], ["rollback"]), words


def _aws(words: list[str]) -> None:
    """Parameters are those that the function reads, overrides and the template those of this tree."""
    template = (ROOT / "infra" / "aws" / "template.yaml").read_text()
    if name := _option(words, "--name"):
        path, _, variable = name.rpartition("/")
        assert path == "/lull/production" and f"/{variable}," in template, words
    file = _option(words, "--template-file")
    assert file in (None, "packaged.yaml") or (ROOT / str(file)).is_file(), words
    head = template.partition("\nResources:")[0]
    if "--parameter-overrides" in words:
        for override in words[words.index("--parameter-overrides") + 1 :]:
            name, _, value = override.partition("=")
            found = re.search(rf"^  {name}:\n((?:    .*\n)+)", head, re.MULTILINE)
            assert found, override
            allowed = re.search(r"AllowedValues: \[(.*)\]", found[1])
            assert not allowed or value in re.split(r"[\", ]+", allowed[1]), override
    if payload := _option(words, "--payload"):
        assert json.loads(payload) == {"task": "cleanup"}, words
    known = {
        ("aws", "ssm", "put-parameter"),
        ("aws", "cloudformation", "package"),
        ("aws", "cloudformation", "deploy"),
        ("aws", "cloudformation", "describe-stacks"),
        ("aws", "lambda", "invoke"),
        ("sam", "deploy"),
    }
    assert any(tuple(words[: len(each)]) == each for each in known), words


def _python(words: list[str]) -> None:
    """Tests are those of this tree, verbs those of infra."""
    match words[1:]:
        case ["-m", "pytest", *rest]:
            named = [word for word in rest if word.startswith("tests")]
            assert named and all((ROOT / name).exists() for name in named), words
        case ["-m", "infra", verb]:
            assert verb in VERBS, words
        case other:
            raise AssertionError(other)


def _target(words: list[str]) -> None:
    assert words[0] == "make" and words[1] in targets(), words


# Commands that the tests do not run, each with the reason: by their first word, or by their first two.
NOT_RUN = {
    "vercel": NotRun("needs an account; tests/release builds and starts what it would deploy", _vercel),
    "aws": NotRun("needs an account; tests/release creates the stack on a local AWS", _aws),
    "sam": NotRun("needs an account; tests/release creates the stack on a local AWS", _aws),
    ".venv/bin/python": NotRun("runs tests within tests, or writes into the checkout", _python),
    "make package-aws": NotRun("downloads packages for another processor; tests/release runs it", _target),
    "make bench": NotRun("takes a quarter of an hour, and writes the page that shows it", _target),
    "make bench-quick": NotRun("takes minutes, and measures a machine", _target),
    "make serve": NotRun("runs until it is stopped; tests/infra starts it", _target),
    "make dev": NotRun("runs until it is stopped; tests/infra starts it", _target),
}
if shutil.which("openssl"):
    RUN.add("openssl")
else:
    NOT_RUN["openssl"] = NotRun("it is not installed here", _openssl)


def not_run(words: list[str]) -> NotRun | None:
    """Why a command is not run, by its first word or its first two (`make dev`)."""
    return NOT_RUN.get(" ".join(words[:2])) or NOT_RUN.get(words[0])


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
