"""`db sql`: the schema as a script."""

from __future__ import annotations

import click

from perdure.cli.session import DONE, Session, shared, with_session
from perdure.stores.ddl import KINDS, Kind, script


@click.command()
@click.argument("dialect", type=click.Choice(KINDS))
@click.option("--schema", metavar="NAME", help="The schema that the tables stand in.")
@click.option("--table-prefix", metavar="TEXT", default="", help="What the tables' names begin with.")
@shared
@with_session
def sql(session: Session, dialect: Kind, schema: str | None, table_prefix: str) -> int:
    """Print the statements that make the tables.

    For those who make them by other means. Run it once, on a database without them.
    """
    text = script(dialect, schema, table_prefix)
    session.document({"dialect": dialect, "script": text})
    session.say(text)
    return DONE
