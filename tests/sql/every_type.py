"""A table with a column of every built-in type, and values at the edges of each."""

from typing import Any

import psycopg
from psycopg import sql

from tests.sql.team_tables import create_table

Connection = psycopg.Connection[Any]

# Types that no column of a team's table can hold, and json, which lull.adopt() refuses.
NOT_FOR_COLUMNS = {
    "gtsvector",
    "json",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
}

_DATES = ["0044-03-15 BC", "2024-02-29", "infinity", "-infinity", "5874897-12-31"]
_MOMENTS = [
    "0044-03-15 12:00:00 BC",
    "2026-11-20 01:02:03.000001",
    "infinity",
    "-infinity",
    "1883-11-18 12:03:58",
]
_REALS = ["-0", "NaN", "Infinity", "-Infinity", "1e-37", "0.1", "3.4028235e38"]
_PECULIAR = "üñí\n\tçødé \\ back 'single' \"double\" {},()[] NULL 🦉 "

SAMPLES: dict[str, list[str]] = {
    "aclitem": ["pg_monitor=arwd/pg_monitor"],
    "bit": ["0", "1"],
    "bit(9)": ["010101010"],
    "bool": ["true", "false"],
    "box": ["(1.1,-0),(0.1,-Infinity)"],
    "bpchar": ["blanks  ", "", " x"],
    "char(7)": ["ab", "'\\\n", ""],
    "bytea": ["", r"\x00ff5c27", r"\xdeadbeef"],
    '"char"': ["a", "'", ""],
    "cid": ["4294967295"],
    "cidr": ["10.0.0.0/8", "::/0", "2001:db8::/32"],
    "circle": ["<(1,2),3.5>"],
    "date": _DATES,
    "datemultirange": ["{}", "{[2024-01-01,2024-02-01),[2025-01-01,infinity)}"],
    "daterange": ["empty", "[2024-01-01,)", "(,)"],
    "float4": _REALS,
    "float8": [*_REALS, "1.7976931348623157e308", "5e-324", "0.30000000000000004"],
    "inet": ["192.168.1.1/24", "192.168.1.1", "::1/64"],
    "int2": ["-32768", "32767"],
    "int2vector": ["1 2 3", ""],
    "int4": ["-2147483648", "2147483647"],
    "int4multirange": ["{}", "{[1,3),[7,)}"],
    "int4range": ["empty", "[1,5]", "(,5)"],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "int8multirange": ["{(,1),[3,4)}"],
    "int8range": ["[1,9223372036854775807)"],
    "interval": [
        "1 mon -30 days +23:59:59.999999",
        "-1 year -2 days -3 hours",
        "00:00",
        "178000000 years",
        "3 days",
    ],
    "interval day to second(2)": ["-4 days -00:00:00.25", "4 days 00:00:00.25"],
    "jsonb": ["null", '"null"', "{}", '{"a": [1.00, null, "\\u00e9\\n"], "": 1e40}', "[]", "-0.0"],
    "jsonpath": ['$."a"[*]?(@ > 1)', "strict $"],
    "line": ["{1,-1,0}"],
    "lseg": ["[(1,2),(3,4)]"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "money": ["-92233720368547758.08", "1234.56", "0"],
    "name": ["a name", 'Weird "name"'],
    "numeric": [
        "NaN",
        "Infinity",
        "-Infinity",
        "1.500",
        "0.000",
        "1e1000",
        "-0." + "0" * 300 + "1",
        "9" * 400,
    ],
    "numeric(20,5)": ["1.5", "-123456789012345.00001"],
    "nummultirange": ["{[1.50,2.0)}"],
    "numrange": ["[1.10,NaN]", "empty"],
    "oid": ["4294967295"],
    "oidvector": ["1 4294967295"],
    "path": ["[(1,2),(3,4)]", "((1,2),(3,4))"],
    "pg_lsn": ["FFFFFFFF/FFFFFFFF", "0/0"],
    "pg_snapshot": ["10:20:10,14,15"],
    "point": ["(-0,NaN)", "(1e-300,Infinity)"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "refcursor": ["<unnamed portal 1>"],
    "regclass": ["lull.sessions", "pg_catalog.pg_class"],
    "regcollation": ['pg_catalog."C"'],
    "regconfig": ["pg_catalog.english"],
    "regdictionary": ["pg_catalog.simple"],
    "regnamespace": ["pg_catalog"],
    "regoper": ["pg_catalog.#-"],
    "regoperator": ["pg_catalog.+(integer,integer)", "pg_catalog.-(none,bigint)"],
    "regproc": ["pg_catalog.now"],
    "regprocedure": ["pg_catalog.abs(numeric)"],
    "regrole": ["service_role"],
    "regtype": ["timestamp with time zone", "lull.sessions[]"],
    "text": [_PECULIAR, "", "null", "NULL", "\\N", "\x01\x7f\r\n", "x" * 20000],
    "tid": ["(4294967295,65535)"],
    "time": ["24:00:00", "00:00:00.000001"],
    "timestamp": _MOMENTS,
    "timestamp(2)": ["2026-11-20 01:02:03.25"],
    "timestamptz": [
        *(f"{moment}" for moment in _MOMENTS),
        "2026-10-25 02:30:00+01",
        "2026-10-25 02:30:00+02",
    ],
    "timetz": ["24:00:00-15:59", "10:00:00.000001+05:45"],
    "tsmultirange": ["{[2024-01-01 00:00:00.5,2024-01-02)}"],
    "tsquery": ["'it''s':*A & !'b c' <2> 'd\\\\'", ""],
    "tsrange": ["[-infinity,infinity]", "(,2024-01-01)"],
    "tstzmultirange": ["{(,2024-01-01 00:00:00.000001+03)}"],
    "tstzrange": ["[2024-01-01 00:00:00+00,)"],
    "tsvector": ["'a':1A,3B 'it''s' 'w\\\\x':2", ""],
    "txid_snapshot": ["10:20:10,14,15"],
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
    "varbit": ["", "101010101"],
    "varbit(5)": ["101"],
    "varchar": [_PECULIAR, ""],
    "varchar(5)": ["abc  ", "ünïçø"],
    "xid": ["4294967295"],
    "xid8": ["18446744073709551615"],
    "xml": ['<a b="1">é&lt;<!-- x --></a>', "text <b/> more"],
}


def built_in_types(connection: Connection) -> set[str]:
    """List the names of the catalog's base and range types; an array type is that of its elements."""
    rows = connection.execute(
        """
        select format_type(oid, null) as name, typname from pg_type
        where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm')
          and (typcategory <> 'A' or typname in ('int2vector', 'oidvector'))
        """
    ).fetchall()
    names = {'"char"' if row["typname"] == "char" else row["typname"] for row in rows}
    return names - NOT_FOR_COLUMNS


def samples(connection: Connection) -> dict[str, list[str]]:
    """Return the samples; without xml where the server was built without it."""
    try:
        connection.execute("select '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return {name: values for name, values in SAMPLES.items() if name != "xml"}
    return SAMPLES


def create_table_of_every_type(connection: Connection, table: str = "public.everything") -> None:
    """Create a table with a column of each type and one of its arrays, named like them.

    The first row is null throughout; a later one is null where a type has fewer samples.
    """
    types = samples(connection)
    columns = [f"{quoted(name + suffix)} {name}{suffix}" for name in types for suffix in ("", "[]")]
    create_table(connection, table, f"id int primary key, {', '.join(columns)}")
    connection.execute(f"insert into {table} (id) values (0)")
    for number in range(max(map(len, types.values()))):
        given = {name: values[number] for name, values in types.items() if number < len(values)}
        names = [quoted(name + suffix) for name in given for suffix in ("", "[]")]
        casts = [f"%s::text{suffix}::{name}{suffix}" for name in given for suffix in ("", "[]")]
        values = [value for sample in given.values() for value in (sample, [sample, None])]
        connection.execute(
            f"insert into {table} (id, {', '.join(names)}) values (%s, {', '.join(casts)})",
            [number + 1, *values],
        )


def quoted(name: str) -> str:
    """Quote an identifier."""
    return sql.Identifier(name).as_string()
