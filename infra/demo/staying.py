"""The sessions that a cleanup must not change: the reason for each, and their rows as text."""

from collections.abc import Mapping

from infra.demo.sessions import Connection

# Independent of the policies' SQL, so that the demo compares two formulations.
_WHY = """
  case
    when hold then 'on hold (by an operator)'
    when status = 'paused' then 'paused'
    when status = 'ended' then 'ended (kept as history)'
    when kind = 'chat' and status = 'active' then 'active chat (has a message)'
    when kind = 'chat' and last_activity_at > now() - interval '24 h'
      then 'fresh draft (used in the last 24 h)'
    when kind = 'game' and last_activity_at > now() - interval '30 min'
      then 'fresh game (used in the last 30 min)'
    when kind = 'room' and last_activity_at > now() - interval '1 h' then 'fresh room (used in the last hour)'
    else 'stale'
  end
"""


def counts(database: Connection) -> Mapping[str, int]:
    """Count the sessions that are there, by the reason why they stay; `stale` ones should have been deleted."""
    query = f"select {_WHY} as why, count(*) from lull.sessions group by 1 order by 2 desc"  # noqa: S608
    return {str(why): int(count) for why, count in database.execute(query)}


def rows(database: Connection) -> set[str]:
    """Return every session that must stay as text, with its participants and files."""
    found = database.execute(
        f"""with kept as (select * from lull.sessions where {_WHY} <> 'stale')
        select kept::text from kept
        union all select p::text from lull.session_participants p join kept on kept.id = p.session_id
        union all select f::text from lull.session_files f join kept on kept.id = f.session_id"""  # noqa: S608
    )
    return {str(row[0]) for row in found}


def bytes_due(database: Connection) -> int:
    """Count the files of archived drafts whose restore window has closed."""
    ((count,),) = database.execute(
        """select coalesce(sum(json_array_length(t -> 'rows')), 0)
        from lull.archive_pages p, json_array_elements(p.content) t
        where t ->> 'table' = 'lull.session_files' and p.purge_after < now()"""
    )
    return int(count)
