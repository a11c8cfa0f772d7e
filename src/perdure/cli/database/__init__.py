"""`perdure db`: make the tables, bring them up to date, say whether this database will do.

making.py    init, upgrade        checking.py  check        script.py  sql        granting.py  grant
"""

from __future__ import annotations

import click

from perdure.cli.database.checking import check
from perdure.cli.database.granting import grant
from perdure.cli.database.making import init, upgrade
from perdure.cli.database.script import sql
from perdure.cli.session import DONE, shared


@click.group(invoke_without_command=True)
@shared
@click.pass_context
def db(context: click.Context) -> int:
    """Create and check the database."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return DONE


for command in (init, check, upgrade, sql, grant):
    db.add_command(command)

__all__ = ["db"]
