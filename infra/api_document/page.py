"""Write docs/api.md: the prose of template.md, and every route, field and problem as the API has them."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from api.errors import PROBLEMS
from infra.api_document.shapes import Objects, Schema, code, table, unwrapped
from infra.local.environment import ROOT

TEMPLATE = Path(__file__).with_name("template.md")
PAGE = ROOT / "docs" / "api.md"
HEAD = "<!-- By `python -m infra api-docs`, from the routes and infra/api_document/template.md. -->\n\n"


class DocumentError(ValueError):
    """The template and the routes do not match; the message says what is missing."""


def main(argv: list[str]) -> int:
    """Write the page. Returns the exit code."""
    argparse.ArgumentParser(prog="python -m infra api-docs", description=__doc__).parse_args(argv)
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{PAGE.relative_to(ROOT)} is as the routes say.")
    return 0


def page() -> str:
    """Compose the page. The same routes always give the same text."""
    from api.composition import create_app
    from api.settings import Settings

    document = create_app(Settings.model_construct()).openapi()
    return compose(document, TEMPLATE.read_text(encoding="utf-8"))


def compose(document: Schema, template: str) -> str:
    """Fill the template's places: {{routes: group}}, {{problems}}, {{objects}}.

    Raises DocumentError when a group of routes has no place, or a place no routes.
    """
    objects = Objects(document["components"]["schemas"])
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            text = _route(method, path, route, objects)
            groups.setdefault(_group(path, route), []).append(text)
    filled = {f"routes: {name}": "\n\n".join(texts) for name, texts in groups.items()}
    filled["problems"] = table("Status", "Type", "Meaning", rows=_problems())
    filled["objects"] = objects.text()
    places = re.findall(r"\{\{(.*?)\}\}", template)
    if unmatched := sorted(set(places) ^ filled.keys()):
        raise DocumentError(f"{TEMPLATE.name} and the routes do not match: {', '.join(unmatched)}")
    return HEAD + re.sub(r"\{\{(.*?)\}\}", lambda place: filled[place[1]], template)


def _group(path: str, route: Schema) -> str:
    """The section of a route: operator, everyone, else its feature's."""
    if path.startswith("/api/admin/"):
        return "operator"
    tag = str(route["tags"][0])
    return "everyone" if tag == "insight" else tag


def _route(method: str, path: str, route: Schema, objects: Objects) -> str:
    """One route: description, parameters, body, answers."""
    parameters = [
        (each["name"], each["in"], each["schema"], each.get("description"))
        for each in route.get("parameters", ())
        if each["in"] != "path"
    ]
    parts = [f"### {method.upper()} {path}", unwrapped(route["description"])]
    if parameters:
        rows = (
            [code(name), place, *objects.cells(schema, said, is_input=True)]
            for name, place, schema, said in parameters
        )
        parts.append(table("Parameter", "In", "Type", "Meaning", rows=rows))
    if "requestBody" in route:
        _, body = _content(route["requestBody"])
        parts.append(table("Body", "Type", "Meaning", rows=objects.field_rows(body)))
    answers = route["responses"]
    parts += [_answer(status, answers[status], objects) for status in answers if status < "4"]
    if errors := [status for status in answers if status >= "4"]:
        parts.append(f"Problems: {', '.join(errors)}.")
    return "\n\n".join(parts)


def _answer(status: str, answer: Schema, objects: Objects) -> str:
    """The answer of a success with its documented headers. A small object is listed inline."""
    media, schema = _content(answer)
    if not schema:
        said = "no body"
    elif media != "application/json":
        said = f"`{media}`"
    elif "$ref" in schema and len(fields := objects.fields_of(schema)) <= 2:
        said = " and ".join(_field(name, field, objects) for name, field in fields.items())
    else:
        said = objects.type_of(schema)
    text = f"Answers {status} with {said}."
    if headers := answer.get("headers"):
        text += f" Headers: {', '.join(map(code, headers))}."
    return text


def _field(name: str, field: Schema, objects: Objects) -> str:
    kind, meaning = objects.cells(field, field.get("description"), is_input=False)
    return f"{code(name)} ({kind}{'; ' + meaning.rstrip('.') if meaning else ''})"


def _problems() -> Iterator[list[str]]:
    for status, types in PROBLEMS.items():
        for slug, meaning in types.items():
            yield [str(status), code(slug), meaning]


def _content(holder: Schema) -> tuple[str, Schema]:
    """The media type and shape of a body or an answer; empty when it has none."""
    for media, content in holder.get("content", {}).items():
        if content:
            return media, content.get("schema", {})
    return "", {}
