"""SQLAlchemy: load the stale sessions, `session.delete` each, commit (seed 000's repository does it so).

With `eager`, the children come along with the load; with `lazy`, SQLAlchemy's default, each delete loads its own.
"""

import os
import sys
from datetime import datetime

from sqlalchemy import MetaData, Table, create_engine, select
from sqlalchemy.orm import Session, registry, relationship

from tests.bench.contenders.conversation import take_part


class PlainSession:
    """A session."""


class Participant:
    """A participant, who goes with the session."""


class File:
    """A file, which goes with the session."""


def main() -> None:
    engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"))
    metadata, mapper = MetaData(), registry()
    tables = [Table(f"plain_{name}", metadata, autoload_with=engine) for name in ("sessions", "participants", "files")]
    loading = {"eager": "selectin", "lazy": "select"}[sys.argv[1]]
    below = {
        name: relationship(model, cascade="all, delete-orphan", lazy=loading)
        for name, model in (("participants", Participant), ("files", File))
    }
    mapper.map_imperatively(Participant, tables[1])
    mapper.map_imperatively(File, tables[2])
    mapper.map_imperatively(PlainSession, tables[0], properties=below)
    columns = tables[0].c
    stale = select(PlainSession).where(
        columns.kind == "chat",
        columns.status == "draft",
        columns.first_message_at.is_(None),
        columns.last_activity_at < datetime.fromisoformat(os.environ["CUTOFF"]),
    )
    if "LIMIT" in os.environ:
        stale = stale.limit(int(os.environ["LIMIT"]))

    def clean() -> None:
        with Session(engine) as session:
            for row in session.scalars(stale).all():
                session.delete(row)
            session.commit()

    take_part(clean)


main()
