"""What is in a server's database now, read from outside it: SQLite or PostgreSQL, the same values from both."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

TABLES = "select table_name as name from information_schema.tables where table_schema = 'public'"

Row = dict[str, Any]


def rows(database: str | Path, query: str, values: tuple[Any, ...]) -> list[Row]:
    """Rows of the SQLite file, or of the PostgreSQL at this URL. `?` stands for a value.

    Uuids are hex without dashes, booleans are 0 and 1, times are written in UTC.
    """
    return file_rows(database, query, values) if isinstance(database, Path) else server_rows(database, query, values)


def file_rows(database: Path, query: str, values: tuple[Any, ...]) -> list[Row]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


def server_rows(database: str, query: str, values: tuple[Any, ...]) -> list[Row]:
    query = query.replace("%", "%%").replace("?", "%s")
    with psycopg.connect(database, autocommit=True, connect_timeout=20, row_factory=dict_row) as connection:
        return [{name: plain(value) for name, value in row.items()} for row in connection.execute(query, values)]


def tables(database: str | Path) -> list[str]:
    """The names of all tables."""
    if isinstance(database, Path):
        return [row["name"] for row in file_rows(database, "select name from sqlite_master where type = 'table'", ())]
    return [row["name"] for row in server_rows(database, TABLES, ())]


def plain(value: Any) -> Any:
    """A value of PostgreSQL as SQLite would have kept it."""
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None))
    return int(value) if isinstance(value, bool) else value


def open_connections(database: str, name: str) -> int:
    """How many connections the program that calls itself `name` has to a PostgreSQL."""
    [row] = server_rows(database, "select count(*) as n from pg_stat_activity where application_name = ?", (name,))
    return int(row["n"])
