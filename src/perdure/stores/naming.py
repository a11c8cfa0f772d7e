"""Under which names our tables stand: in a schema of their own, or with a prefix, beside the tables of others.

Statements and migrations are written with plain names. Where a store is given others they are put in once, when its
statements are loaded: nothing rests on the settings of a session, which a pooler may hand to somebody else. A table
whose name is one word (`queues`) may have columns of that name beside it, so it is told by the word before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from perdure.errors import PerdureError
from perdure.stores.migrations import Migration, load_migrations
from perdure.stores.queries import load_queries

Dialect = Literal["postgres", "mysql"]

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")  # the longest name that it stands before has 39 characters
_INDEX = re.compile(r"\b(create (?:unique )?index (?:if not exists )?)(\w+)")
_DROPPED = re.compile(r"\bdrop index (\w+)")
_FUNCTION = re.compile(r"^create (?:or replace )?function (\w+)", re.MULTILINE)
_BEFORE_A_TABLE = r"(?:from|join|into|update|table|on|if not exists|references)\s+|null::"
# Tables that no migration makes: a move does.
_ON_DEMAND = {"moved_away"}
# What tells the schema in which new tables would be made.
_HERE = {"postgres": "current_schema()", "mysql": "database()"}
_QUOTE = {"postgres": '"', "mysql": "`"}


@dataclass(frozen=True, slots=True)
class Names:
    """A schema (None: the one where new tables are made by themselves) and a prefix of all tables' names.

    On MariaDB and MySQL a schema is a database. Raises `PerdureError` for names that would need care.
    """

    dialect: Dialect
    schema: str | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.schema is not None and (not _SCHEMA.fullmatch(self.schema) or self.schema.lower().startswith("pg_")):
            raise PerdureError(
                f"schema={self.schema!r}: letters, digits, _ and - only, not with a digit first, at most 63,"
                " and not pg_..., which are the server's own"
            )
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            raise PerdureError(
                f"table_prefix={self.prefix!r}: letters, digits and _ only, not with a digit first, at most 24"
            )

    @property
    def quoted_schema(self) -> str:
        """The schema as it stands in a statement; empty where none was given."""
        return "" if self.schema is None else self._quote(self.schema)

    def table(self, name: str) -> str:
        """A table's name as the server's catalog has it."""
        return self.prefix + name

    def plain(self, name: str) -> str:
        """The name that statements have for a table of the catalog."""
        return name.removeprefix(self.prefix)

    def put_in(self, text: str) -> str:
        """The text of a statement, or of several, with these names."""
        if self.prefix:  # names of locks, which are the whole server's
            text = text.replace("sha1(database())", f"sha1(concat(database(), '/{self.prefix}'))")
        if self.schema is not None:
            text = text.replace(_HERE[self.dialect], f"'{self.schema}'")
        if self.schema is None and not self.prefix:
            return text
        text = _DROPPED.sub(lambda found: f"drop index {self._whole(found[1])}", text)
        text = _INDEX.sub(lambda found: found[1] + self._quote(self.prefix + found[2]), text)
        return _pattern(self.dialect).sub(lambda found: (found[1] or "") + self._whole(found[2] or found[3]), text)

    def _whole(self, name: str) -> str:
        own = self._quote(self.prefix + name)
        return own if self.schema is None else f"{self._quote(self.schema)}.{own}"

    def _quote(self, name: str) -> str:
        return f"{_QUOTE[self.dialect]}{name}{_QUOTE[self.dialect]}"


@cache
def _pattern(dialect: Dialect) -> re.Pattern[str]:
    known = load_migrations(dialect)
    tables = _ON_DEMAND | {table for migration in known for table in migration.tables}
    functions = {name for migration in known for name in _FUNCTION.findall(migration.text)}
    alone = "|".join(sorted(table for table in tables if "_" not in table))
    anywhere = "|".join(sorted(functions | {table for table in tables if "_" in table}))
    return re.compile(rf"\b({_BEFORE_A_TABLE})({alone})\b|\b({anywhere})\b")


@cache
def load_statements(parts: tuple[str, ...], names: Names) -> MappingProxyType[str, str]:
    """The named statements of these files, with these names in them."""
    return MappingProxyType(
        {name: names.put_in(statement) for part in parts for name, statement in load_queries(part).items()}
    )


@cache
def named_migrations(names: Names) -> tuple[Migration, ...]:
    """The schema's history with these names in it."""
    return tuple(
        Migration(known.version, known.name, known.oldest_writer, names.put_in(known.text), frozenset(known.tables))
        for known in load_migrations(names.dialect)
    )
