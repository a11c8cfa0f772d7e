"""The schema's history: `<dialect>/0001_first.sql`, `0002_...sql`, applied in order, each once.

A file says in a comment line `-- oldest writer: N` which library may still write to a database that has it: one
that knows the schema up to N. A statement ends with a semicolon at the end of a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent

NO_TABLES = (
    "{} has no tables of Perdure, and whoever only looks makes none: `perdure db init` does, and so does the first"
    " program that runs something there"
)

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_OLDEST_WRITER = re.compile(r"^-- oldest writer: *(\d+) *$", re.MULTILINE)
_TABLE = re.compile(r"^create table (\w+)", re.MULTILINE)
_STATEMENT_END = re.compile(r";[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema. `text` is the whole file, `tables` are those that it makes."""

    version: int
    name: str
    oldest_writer: int
    text: str
    tables: frozenset[str] = frozenset()

    @property
    def statements(self) -> list[str]:
        """Its statements, one by one, with the comments that stand before each."""
        parts = (part.strip() for part in _STATEMENT_END.split(self.text))
        return [part for part in parts if any(not line.startswith("--") for line in part.splitlines())]


@cache
def load_migrations(dialect: str) -> tuple[Migration, ...]:
    """All migrations of a dialect, in order."""
    found = []
    for file in (FOLDER / dialect).iterdir():
        if match := _FILE.fullmatch(file.name):
            text = file.read_text("utf-8")
            writer = _OLDEST_WRITER.search(text)
            if writer is None:
                raise ValueError(f"{dialect}/{file.name} does not say its oldest writer")
            tables = frozenset(_TABLE.findall(text))
            found.append(Migration(int(match[1]), match[2], int(writer[1]), text, tables))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations of {dialect} are not numbered from 1 without a gap")
    return tuple(found)
