"""The demo chat of `make dev`: the page, the application behind it, and a way to make a session old.

It is added to the API of a local Supabase only (infra/local/api.py). The table of messages stands for an application's
own, in a schema of its own, made at the first visit.
"""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Request, Response
from psycopg.rows import dict_row
from pydantic import BaseModel, Field

from api.cleanup.run import cleanup_of, run_cleanup
from api.http.parts import parts_of
from api.pages.assets import FOLDER, file_answer, page_answer

DATABASE_VARIABLE = "LULL_DEMO_DATABASE_URL"

_TABLE = """
create schema if not exists lull_demo;
create table if not exists lull_demo.messages (
  id bigint generated always as identity primary key,
  session_id uuid not null,
  client_key text not null,
  author text not null,
  text text not null,
  at timestamptz not null default now(),
  unique (session_id, client_key)
);
"""
Text = Annotated[str, Field(min_length=1, max_length=4000)]


class Message(BaseModel):
    """A message to deliver; `key` is the same in every try."""

    session: UUID
    key: Annotated[str, Field(min_length=1, max_length=100)]
    author: Annotated[str, Field(min_length=1, max_length=80)]
    text: Text


class Ageing(BaseModel):
    """How much older a session is made, and whether a cleanup runs then."""

    session: UUID
    minutes: Annotated[float, Field(gt=0, le=525_600)]
    cleanup: bool = False


def demo_router(database_url: str) -> APIRouter:
    """The routes of the demo, on the database of a local Supabase. Opens no connection before the first visit."""
    router = APIRouter(prefix="/demo", include_in_schema=False)
    prepared: list[bool] = []

    def connect() -> psycopg.Connection[dict[str, Any]]:
        connection = psycopg.connect(database_url, autocommit=True, row_factory=dict_row)
        if not prepared:
            connection.execute(_TABLE)
            prepared.append(True)
        return connection

    @router.get("")
    def show(request: Request) -> Response:
        project = parts_of(request).settings.supabase_url or ""
        html = (FOLDER / "demo" / "page.html").read_text(encoding="utf-8")
        return page_answer(html, scripts=True, connect=(project.rstrip("/"),))

    @router.get("/demo.js")
    def show_script(request: Request) -> Response:
        return file_answer(request, FOLDER / "demo" / "script.js")

    @router.get("/demo.css")
    def show_styles(request: Request) -> Response:
        return file_answer(request, FOLDER / "demo" / "styles.css")

    @router.get("/messages")
    def list_messages(session: UUID, after: int = 0) -> list[dict[str, Any]]:
        query = """
            select id, client_key as key, author, text, at from lull_demo.messages
            where session_id = %s and id > %s order by id limit 500
        """
        with connect() as database:
            return database.execute(query, (session, after)).fetchall()

    @router.post("/messages", status_code=201)
    def deliver(message: Message) -> dict[str, bool]:
        """Store a message once: a second try with its key changes nothing, and is answered alike."""
        statement = """
            insert into lull_demo.messages (session_id, client_key, author, text)
            values (%(session)s, %(key)s, %(author)s, %(text)s) on conflict do nothing
        """
        with connect() as database:
            database.execute(statement, message.model_dump())
        return {"stored": True}

    @router.post("/age")
    def age(request: Request, ageing: Ageing) -> dict[str, Any]:
        """Make the session's rows older, as if nothing had happened in it since; then clean up if it is asked for."""
        older = timedelta(minutes=ageing.minutes)
        with connect() as database, database.transaction():
            # without triggers: one of them moves a participant's clock to now
            database.execute("set local session_replication_role = replica")
            database.execute(
                "update lull.sessions set created_at = least(created_at, now() - %(older)s), "
                "last_activity_at = now() - %(older)s where id = %(id)s",
                {"older": older, "id": ageing.session},
            )
            database.execute(
                "update lull.session_participants set joined_at = least(joined_at, now() - %(older)s), "
                "last_seen_at = now() - %(older)s where session_id = %(id)s",
                {"older": older, "id": ageing.session},
            )
        if not ageing.cleanup:
            return {"cleanup": None}
        report = run_cleanup(cleanup_of(parts_of(request)), caller="demo")
        return {"cleanup": report.model_dump(mode="json", include={"deleted"})}

    return router
