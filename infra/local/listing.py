"""How Storage lists a folder: its objects by their last name, and its sub-folders as rows without an id."""

from typing import Any

from infra.local.objects import Record

FOLDER: Record = {
    "id": None,
    "updated_at": None,
    "created_at": None,
    "last_accessed_at": None,
    "metadata": None,
}


def list_folder(objects: list[Record], options: dict[str, Any]) -> list[Record]:
    """Return one page of a folder; options as the client sends them (prefix, search, sortBy, limit …)."""
    prefix = str(options.get("prefix") or "").strip("/")
    start = f"{prefix}/" if prefix else ""
    search = str(options.get("search") or "").lower()
    rows: dict[str, Record] = {}
    for record in objects:
        if not record["name"].startswith(start):
            continue
        name, slash, _ = record["name"].removeprefix(start).partition("/")
        if not name.lower().startswith(search):
            continue
        rows[name + slash] = {"name": name, **FOLDER} if slash else {**record, "name": name}
    order = options.get("sortBy") or {}
    column = str(order.get("column") or "name")
    listed = sorted(
        rows.values(), key=lambda row: str(row.get(column) or ""), reverse=order.get("order") == "desc"
    )
    offset, limit = int(options.get("offset") or 0), int(options.get("limit") or 100)
    return listed[offset : offset + limit]
