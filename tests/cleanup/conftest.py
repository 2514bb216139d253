"""A team's table of chats with messages and their attachments, adopted, for tests of the cleanup's undo."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

Sql = psycopg.Connection[Any]

TABLES = """
    create table public.team_chats (
      id uuid primary key default gen_random_uuid(), user_id uuid, status text not null default 'draft',
      first_message_at timestamptz, updated_at timestamptz not null default now(), notes jsonb);
    create index on public.team_chats (status, updated_at);
    create index on public.team_chats (updated_at);
    create table public.team_tags (
      id bigint generated always as identity primary key, label text, weight numeric,
      chat_id uuid not null references public.team_chats on delete cascade);
    create index on public.team_tags (chat_id);
    create table public.team_marks (
      id bigint generated always as identity primary key, spots int[],
      tag_id bigint not null references public.team_tags on delete cascade);
    create index on public.team_marks (tag_id);
"""
ADOPT = """
    select lull.adopt_sessions('public.team_chats', 'chat', p_owner => 'user_id', p_status => 'status',
      p_first_message => 'first_message_at', p_clock => 'updated_at', p_existing => true,
      p_below => '{"public.team_tags": "goes along", "public.team_marks": "goes along"}')
"""
DROP = "drop table if exists public.team_marks, public.team_tags, public.team_chats cascade"


@pytest.fixture
def team_chats(sql: Sql) -> Iterator[str]:
    """The adopted table `public.team_chats` with `team_tags` and, below them, `team_marks`; empty."""
    sql.execute(DROP)
    sql.execute(TABLES)
    sql.execute(ADOPT)
    yield "public.team_chats"
    sql.execute(DROP)
    sql.execute("delete from lull.targets where not builtin")
