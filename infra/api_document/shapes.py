"""The shapes of the OpenAPI document as a person reads them: types, fields, tables."""

from collections.abc import Iterable, Iterator
from typing import Any

Schema = dict[str, Any]


class Objects:
    """The named schemas of answers, and which of them the routes refer to."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas
        self._used: set[str] = set()

    def fields_of(self, reference: Schema) -> Schema:
        """The fields of a named shape."""
        return dict(self._schemas[_name(reference)].get("properties", {}))

    def type_of(self, schema: Schema) -> str:
        """A type as a person reads it; a named shape is a link."""
        if "$ref" in schema:
            name = _name(schema)
            self._used.add(name)
            return f"[{name}](#{name.lower()})"
        if "anyOf" in schema:
            kinds = dict.fromkeys(self.type_of(each) for each in schema["anyOf"])
            return "number" if kinds.keys() == {"integer", "number"} else " or ".join(kinds)
        if "enum" in schema or "const" in schema:
            return " or ".join(_value(value) for value in schema.get("enum", [schema.get("const")]))
        if schema.get("type") == "array":
            return f"list of {self.type_of(schema['items'])}"
        if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
            return f"{self.type_of(schema['additionalProperties'])} by name"
        if schema.get("format") in {"date-time", "uuid"}:
            return "time" if schema["format"] == "date-time" else "UUID"
        return str(schema.get("type", "any"))

    def cells(self, schema: Schema, said: str | None, *, is_input: bool) -> list[str]:
        """A type and its meaning; with limits and the default for inputs only."""
        meaning = unwrapped(said or "")
        if not is_input:
            return [self.type_of(schema), meaning]
        default = schema.get("default")
        if default not in (None, {}) and str(default) not in meaning:
            meaning = f"{meaning} Default: {_value(default)}.".lstrip()
        return [self.type_of(schema) + _limits(schema), meaning]

    def field_rows(self, schema: Schema) -> Iterator[list[str]]:
        """A row for each field; in a body, required fields are marked."""
        is_input = schema.get("additionalProperties") is False
        for name, field in schema.get("properties", {}).items():
            mark = " (required)" if is_input and name in schema.get("required", ()) else ""
            yield [code(name) + mark, *self.cells(field, field.get("description"), is_input=is_input)]

    def text(self) -> str:
        """Every schema that a route or another schema refers to, by name, with its fields."""
        texts: dict[str, str] = {}
        while left := sorted(self._used - texts.keys()):
            for name in left:
                schema = self._schemas[name]
                rows = table("Field", "Type", "Meaning", rows=self.field_rows(schema))
                texts[name] = f"### {name}\n\n{unwrapped(schema['description'])}\n\n{rows}"
        return "\n\n".join(texts[name] for name in sorted(texts))


def table(*heads: str, rows: Iterable[list[str]]) -> str:
    """A Markdown table, without an empty last column."""
    lines = [list(heads), *rows]
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def unwrapped(text: str) -> str:
    """The text with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def code(value: object) -> str:
    """A word as Markdown code."""
    return f"`{value}`"


def _value(value: object) -> str:
    return code(str(value).lower() if isinstance(value, bool) else value)


def _limits(schema: Schema) -> str:
    given = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    low, high = given.get("minimum"), given.get("maximum")
    if low is not None and high is not None and high < 2**53 - 1:
        return f", {low} to {high}"
    if "maxLength" in given:
        return f", at most {given['maxLength']} characters"
    return f", {low} or more" if low is not None else ""


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
