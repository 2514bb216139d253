"""Everything that a migration makes, as lines that can be compared; not what it retires."""

from __future__ import annotations

from tests.sql_servers import Connection

QUERY = """
with relation as (
  select c.* from pg_class c where c.relnamespace in ('lull'::regnamespace, 'public'::regnamespace)
)
select 'relation ' || c.oid::regclass || ' ' || c.relkind::text || ' ' || coalesce(c.relacl::text, '') ||
  coalesce(c.reloptions::text, '') as line from relation c
union all
select 'column ' || c.oid::regclass || ' ' || a.attnum || ' ' || a.attname || ' ' ||
  format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text || a.attgenerated::text || ' ' ||
  coalesce(pg_get_expr(d.adbin, d.adrelid), '')
from relation c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
union all
select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(o.oid)
from pg_constraint o join relation c on c.oid = o.conrelid
union all
select 'index ' || pg_get_indexdef(i.indexrelid) from pg_index i join relation c on c.oid = i.indrelid
union all
select 'view ' || c.oid::regclass || ' ' || pg_get_viewdef(c.oid) from relation c where c.relkind = 'v'
union all
select 'trigger ' || pg_get_triggerdef(t.oid)
from pg_trigger t join relation c on c.oid = t.tgrelid where not t.tgisinternal
union all
select 'function ' || pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
from pg_proc p where p.pronamespace in ('lull'::regnamespace, 'public'::regnamespace)
  and coalesce(obj_description(p.oid, 'pg_proc'), '') not like 'Retired %'
union all
select 'schema ' || nspname || coalesce(nspacl::text, '') from pg_namespace where nspname in ('lull', 'public')
union all
select 'migration ' || name || ' ' || checksum from lull.migrations
union all
select 'object ' || kind || ' ' || identity from lull.objects
union all
select 'policy ' || p::text from lull.policies p
union all
select 'target ' || name || ' ' || key_columns::text from lull.targets
"""


def catalog(connection: Connection) -> list[str]:
    """Return a line for every object, definition and grant in the schemas lull and public."""
    with connection.transaction():
        connection.execute("set local search_path = ''")
        return sorted(row["line"] for row in connection.execute(QUERY.encode()))
